"""Who may do what: host and origin guard, login, uploads, media."""
