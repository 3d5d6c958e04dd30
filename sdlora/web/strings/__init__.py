"""What is said on screen, English and Japanese, one file a screen."""
