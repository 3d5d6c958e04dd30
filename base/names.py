"""Which pictures: the concrete things that all three training sets draw, under one shared name."""

from __future__ import annotations

TRAINING_SETS = {"twemoji": "twemoji", "noto": "noto", "fluent": "fluent-emoji-flat"}
"""Word used in captions -> npm package `@iconify-json/<package>`. OpenMoji and FxEmoji are never here."""

PLAINEST = "twemoji"
"""The set with the flattest drawings: what a prompt without a known style draws, and what palettes are made from."""

FURTHER_SETS = {
    "gradient": "fluent-emoji",
    "stencil": "fluent-emoji-high-contrast",
    "emojitwo": "emojione",
    "linocut": "emojione-monotone",
    "classic": "noto-v1",
    "streamline": "streamline-emojis",
}
"""More sets to train on, seen less often; each has most of the names. A base that knows three ways to draw an apple
has little to make a fourth of."""

JUDGING_SETS = {"openmoji": "openmoji", "fxemoji": "fxemoji"}
"""Unseen styles, only ever read by `base.measure`."""

_LISTED = """
ant bird butterfly cat-face baby-chick duck owl flamingo parrot penguin cow-face crab crocodile dog-face elephant fish
shark whale octopus squid fox frog giraffe hedgehog horse honeybee koala lady-beetle lion monkey-face mouse-face panda
pig-face rabbit-face snail snake spider tiger-face turtle unicorn wolf zebra grinning-face
smiling-face-with-sunglasses smiling-face-with-heart-eyes winking-face crying-face angry-face sleeping-face clown-face
face-with-tears-of-joy alien alien-monster robot ghost skull jack-o-lantern snowman santa-claus baby thumbs-up
victory-hand raised-fist ear eye red-heart blue-heart green-heart purple-heart broken-heart red-apple green-apple pear
tangerine lemon banana watermelon grapes strawberry cherries pineapple tomato avocado eggplant carrot ear-of-corn
hot-pepper broccoli mushroom bread croissant pretzel cheese-wedge meat-on-bone hamburger french-fries pizza sandwich
taco egg popcorn sushi ice-cream doughnut cookie birthday-cake cupcake candy lollipop hot-beverage wine-glass
cocktail-glass beer-mug fork-and-knife teapot bouquet cherry-blossom rose hibiscus sunflower tulip seedling
potted-plant evergreen-tree palm-tree cactus four-leaf-clover maple-leaf christmas-tree automobile taxi bus
fire-engine delivery-truck tractor racing-car motorcycle bicycle train helicopter airplane rocket flying-saucer
sailboat ship anchor ferris-wheel house factory castle church tent volcano sun cloud rainbow umbrella high-voltage
snowflake fire droplet star shooting-star crescent-moon full-moon tornado ringed-planet balloon wrapped-gift ribbon
trophy soccer-ball basketball baseball bowling kite game-die teddy-bear crystal-ball artist-palette yarn glasses
sunglasses t-shirt jeans dress backpack running-shoe crown top-hat graduation-cap lipstick ring gem-stone bell
microphone headphone saxophone guitar trumpet violin musical-note mobile-phone battery laptop keyboard television
camera light-bulb candle open-book scroll money-bag envelope pencil paperclip scissors locked key hammer bomb shield
wrench microscope telescope pill toilet hourglass-done moai
"""

NAMES = _LISTED.split()
"""The names that the base is taught, where all three sets have them. Fewer names drawn well beat many drawn badly."""


def shared_names(icons: dict[str, dict[str, dict]]) -> list[str]:
    """Those of NAMES that every set of `icons` (set -> name -> icon) has, in the order of NAMES."""
    return [name for name in NAMES if all(name in one for one in icons.values())]
