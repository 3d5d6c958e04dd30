"""Which pictures: the concrete things that all three training sets draw, under one shared name."""

from __future__ import annotations

TRAINING_SETS = {"twemoji": "twemoji", "noto": "noto", "fluent": "fluent-emoji-flat"}
"""Word used in captions -> npm package `@iconify-json/<package>`. OpenMoji and FxEmoji are never here."""

JUDGING_SETS = {"openmoji": "openmoji", "fxemoji": "fxemoji"}
"""Unseen styles, only ever read by `base.measure`."""

_LISTED = """
ant bear bird boar bug butterfly cat cat-face hatching-chick baby-chick rooster duck owl flamingo parrot penguin cow
cow-face ox water-buffalo crab crocodile dog dog-face poodle dolphin elephant ram goat fish tropical-fish shark whale
octopus squid fox frog giraffe hedgehog horse horse-face honeybee koala lady-beetle lion monkey monkey-face mouse
mouse-face rat panda pig pig-face rabbit rabbit-face snail snake spider tiger tiger-face turtle unicorn wolf zebra
paw-prints chipmunk grinning-face smiling-face-with-sunglasses smiling-face-with-heart-eyes winking-face crying-face
angry-face sleeping-face clown-face face-with-tears-of-joy alien alien-monster robot ghost skull ogre jack-o-lantern
snowman santa-claus baby baby-angel sun-with-face thumbs-up victory-hand raised-fist nail-polish ear eye kiss-mark
red-heart blue-heart green-heart purple-heart broken-heart red-apple green-apple pear tangerine lemon banana
watermelon grapes strawberry melon cherries peach pineapple tomato avocado eggplant carrot ear-of-corn hot-pepper
broccoli mushroom bread croissant pretzel cheese-wedge meat-on-bone hamburger french-fries pizza sandwich taco egg
cooking pot-of-food popcorn bento-box cooked-rice steaming-bowl spaghetti sushi dango soft-ice-cream shaved-ice
ice-cream doughnut cookie birthday-cake shortcake cupcake chocolate-bar candy lollipop honey-pot baby-bottle
hot-beverage teacup-without-handle wine-glass cocktail-glass tropical-drink beer-mug clinking-beer-mugs fork-and-knife
teapot bouquet cherry-blossom rose hibiscus sunflower blossom tulip seedling potted-plant evergreen-tree
deciduous-tree palm-tree cactus herb four-leaf-clover maple-leaf christmas-tree automobile taxi bus ambulance
fire-engine police-car delivery-truck articulated-lorry tractor racing-car motorcycle motor-scooter bicycle
railway-car high-speed-train train tram helicopter airplane rocket flying-saucer sailboat speedboat ship anchor
fuel-pump vertical-traffic-light ferris-wheel roller-coaster carousel-horse house house-with-garden office-building
hospital bank hotel school factory castle japanese-castle church tent fountain statue-of-liberty mount-fuji volcano
desert-island classical-building stadium circus-tent sun cloud sun-behind-cloud rainbow umbrella
umbrella-with-rain-drops high-voltage snowflake fire droplet star shooting-star crescent-moon full-moon tornado
ringed-planet fireworks sparkles balloon party-popper wrapped-gift ribbon ticket trophy sports-medal soccer-ball
basketball baseball american-football rugby-football bowling kite video-game game-die teddy-bear crystal-ball
artist-palette yarn glasses sunglasses t-shirt jeans dress kimono handbag backpack running-shoe crown womans-hat
top-hat graduation-cap lipstick ring gem-stone bell megaphone loudspeaker microphone headphone radio saxophone guitar
musical-keyboard trumpet violin musical-note mobile-phone battery laptop desktop-computer printer keyboard
movie-camera television camera light-bulb candle open-book closed-book books notebook newspaper scroll money-bag
credit-card envelope package postbox pencil briefcase calendar clipboard pushpin paperclip straight-ruler
triangular-ruler scissors wastebasket locked key hammer bomb shield wrench microscope telescope satellite-antenna
syringe pill door toilet shower bathtub hourglass-done watch thermometer moai
"""

NAMES = _LISTED.split()
"""The names that the base is taught, where all three sets have them. Fewer names drawn well beat many drawn badly."""


def shared_names(icons: dict[str, dict[str, dict]]) -> list[str]:
    """Those of NAMES that every set of `icons` (set -> name -> icon) has, in the order of NAMES."""
    return [name for name in NAMES if all(name in one for one in icons.values())]


def spoken(name: str) -> str:
    """`red-apple` -> `red apple`: the form that captions use."""
    return name.replace("-", " ")
