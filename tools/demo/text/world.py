"""What the model knows of the world: tables, no code."""

from __future__ import annotations

from tools.demo.text.phrases import rows

# name | kind | colour | lives in | eats | sound or movement | legs | young | a sentence
ANIMALS = rows("""
dog | mammal | brown | a house with people | meat and dry food | barks | four | puppy | Dogs are loyal and love to play.
cat | mammal | grey | a house with people | fish and meat | meows | four | kitten | Cats sleep for most of the day.
horse | mammal | brown | a stable | hay and grass | neighs | four | foal | Horses can sleep while they stand.
cow | mammal | black and white | a field | grass | moos | four | calf | Cows give us milk.
pig | mammal | pink | a farm | corn and roots | grunts | four | piglet | Pigs are very clever.
sheep | mammal | white | a meadow | grass | bleats | four | lamb | Sheep give us wool.
goat | mammal | white | the hills | leaves and grass | bleats | four | kid | Goats climb very well.
lion | mammal | golden | the grassland | meat | roars | four | cub | Lions live in groups called prides.
tiger | mammal | orange | the forest | meat | roars | four | cub | Tigers have dark stripes and like to swim.
bear | mammal | brown | the forest | fish and berries | growls | four | cub | Many bears sleep through the winter.
wolf | mammal | grey | the forest | meat | howls | four | pup | Wolves hunt together in packs.
fox | mammal | red | a den | mice and berries | barks | four | cub | Foxes have a long and bushy tail.
rabbit | mammal | grey | a burrow | carrots and grass | hops | four | kit | Rabbits have long ears and hear very well.
mouse | mammal | grey | a hole | seeds | squeaks | four | pup | A mouse is small and quick.
elephant | mammal | grey | the grassland | leaves and fruit | trumpets | four | calf | The elephant is the largest animal on land.
monkey | mammal | brown | the trees | fruit and nuts | chatters | four | infant | Monkeys are good climbers.
giraffe | mammal | yellow | the grassland | leaves | hums | four | calf | The giraffe has the longest neck of all animals.
zebra | mammal | black and white | the grassland | grass | brays | four | foal | No two zebras have the same stripes.
bat | mammal | black | a cave | insects | squeaks | two | pup | Bats fly at night and find their way by sound.
whale | mammal | blue | the sea | tiny sea animals | sings | no | calf | The blue whale is the largest animal of all.
dolphin | mammal | grey | the sea | fish | clicks | no | calf | Dolphins are friendly and clever.
squirrel | mammal | red | the trees | nuts | chatters | four | kit | Squirrels hide nuts for the winter.
hedgehog | mammal | brown | the garden | beetles and worms | snuffles | four | hoglet | A hedgehog rolls into a ball when it is afraid.
kangaroo | mammal | brown | the dry plains | grass | jumps | two | joey | A kangaroo carries its young in a pouch.
camel | mammal | brown | the desert | dry plants | grunts | four | calf | A camel can go for days without water.
hen | bird | brown | a farm | corn | clucks | two | chick | Hens lay eggs.
duck | bird | white | a pond | plants and snails | quacks | two | duckling | Ducks swim well because their feet are wide.
goose | bird | white | a farm | grass | honks | two | gosling | Geese fly in the shape of a V.
owl | bird | brown | the forest | mice | hoots | two | owlet | Owls hunt at night and fly without a sound.
eagle | bird | brown | the mountains | fish and rabbits | screams | two | eaglet | An eagle sees very far.
penguin | bird | black and white | the cold south | fish | swims | two | chick | Penguins cannot fly, but they swim very well.
parrot | bird | green | the warm forest | seeds and fruit | talks | two | chick | Some parrots can repeat words, as I can.
robin | bird | brown and red | the garden | worms | sings | two | chick | The robin has a red breast.
frog | amphibian | green | a pond | flies | croaks | four | tadpole | Frogs begin their life in water.
snake | reptile | green | the grass | mice | hisses | no | snakelet | Snakes smell with their tongue.
turtle | reptile | green | the sea | sea plants | swims | four | hatchling | Turtles carry their house on their back.
crocodile | reptile | green | a river | fish and meat | snaps | four | hatchling | Crocodiles have very strong jaws.
goldfish | fish | orange | a bowl of water | flakes | swims | no | fry | Goldfish can live for many years.
shark | fish | grey | the sea | fish | swims | no | pup | Sharks are older than the dinosaurs.
salmon | fish | silver | rivers and the sea | small fish | swims | no | fry | Salmon swim up the river where they were born.
bee | insect | yellow and black | a hive | nectar | buzzes | six | larva | Bees make honey.
ant | insect | black | a nest in the ground | almost anything | crawls | six | larva | An ant can carry much more than its own weight.
butterfly | insect | many colours | the meadow | nectar | flutters | six | caterpillar | A butterfly was once a caterpillar.
spider | arachnid | black | a web | flies | crawls | eight | spiderling | A spider catches flies in its web.
snail | mollusc | brown | the garden | leaves | crawls | no | hatchling | A snail carries its house wherever it goes.
octopus | mollusc | red | the sea | crabs | swims | no | larva | An octopus has eight arms and three hearts.
""")

# name | kind | colour | taste | how it is eaten
FOODS = rows("""
apple | fruit | red | sweet | raw, or baked in a pie
banana | fruit | yellow | sweet | raw, after you peel it
orange | fruit | orange | sweet and fresh | raw, or as juice
lemon | fruit | yellow | sour | in tea, or squeezed over fish
pear | fruit | green | sweet | raw, or cooked with sugar
cherry | fruit | red | sweet | raw, or in a cake
grape | fruit | purple | sweet | raw, in a bunch
strawberry | fruit | red | sweet | raw, with cream
peach | fruit | orange | sweet | raw, when it is soft
plum | fruit | purple | sweet | raw, or as jam
carrot | vegetable | orange | mild and sweet | raw, or boiled in a soup
potato | vegetable | brown | mild | boiled, baked or fried
tomato | vegetable | red | fresh | in a salad, or as a sauce
onion | vegetable | white | sharp | fried in a pan until it is golden
cucumber | vegetable | green | fresh | cut into thin slices
pea | vegetable | green | sweet | boiled for a few minutes
cabbage | vegetable | green | mild | boiled, or raw in a salad
pumpkin | vegetable | orange | mild and sweet | as soup, or baked
spinach | vegetable | green | mild | cooked with butter
pepper | vegetable | red | sweet and fresh | raw, or filled and baked
garlic | vegetable | white | sharp | in small amounts, with other food
mushroom | vegetable | brown | earthy | fried with a little butter
bread | baked food | brown | mild | with butter, cheese or jam
cheese | milk product | yellow | salty | on bread
butter | milk product | yellow | mild | on warm bread
yogurt | milk product | white | a little sour | with fruit and honey
egg | food | white | mild | boiled, or fried in a pan
rice | grain | white | mild | boiled with a little salt
honey | sweet food | golden | very sweet | on bread, or in tea
chocolate | sweet food | brown | sweet | in small pieces, slowly
salt | spice | white | salty | a little of it in almost every dish
soup | dish | many colours | warm and salty | hot, with a spoon
pancake | dish | golden | sweet | warm, with sugar or jam
""")

# name | material | used to | where you find it
THINGS = rows("""
chair | wood | sit on | in the kitchen
table | wood | eat and work at | in the kitchen
bed | wood | sleep in | in the bedroom
lamp | metal | light a room | on the desk
cup | clay | drink from | in the kitchen
spoon | metal | eat soup with | in a drawer
knife | metal | cut bread with | in a drawer
fork | metal | eat with | in a drawer
plate | clay | put food on | in the kitchen
pot | metal | cook soup in | on the stove
kettle | metal | boil water in | on the stove
book | paper | read | on the shelf
pencil | wood | write and draw with | on the desk
scissors | metal | cut paper with | in a drawer
needle | metal | sew with | in a box
hammer | metal | drive in nails | in the workshop
saw | metal | cut wood with | in the workshop
ladder | wood | climb up | in the shed
broom | wood | sweep the floor with | behind the door
bucket | metal | carry water in | in the shed
soap | fat and ash | wash your hands with | in the bathroom
towel | cotton | dry your hands with | in the bathroom
mirror | glass | see yourself in | on the wall
window | glass | look outside through | in the wall
door | wood | enter a room through | in the wall
key | metal | open a lock with | in a pocket
clock | metal | tell the time with | on the wall
coat | wool | keep warm in | on a hook
shoe | leather | walk in | by the door
hat | felt | cover your head with | on a hook
umbrella | cloth | stay dry in the rain under | by the door
bag | cloth | carry things in | on a hook
ball | rubber | play with | in the garden
kite | paper | fly in the wind | in the sky
bicycle | metal | ride to school on | in the shed
boat | wood | cross the water in | on the lake
candle | wax | light a dark room with | on the table
bridge | stone | cross a river on | over the river
telescope | glass | look at the stars through | by the window
computer | metal and silicon | work, write and play with | on the desk
""")

# person | what they do | where they work | tool
JOBS = rows("""
baker | bakes bread and cakes | in a bakery | an oven
teacher | teaches children | in a school | a board
doctor | helps sick people | in a hospital | a stethoscope
nurse | takes care of sick people | in a hospital | a thermometer
farmer | grows food and keeps animals | on a farm | a tractor
gardener | takes care of plants | in a garden | a spade
cook | makes meals | in a kitchen | a pan
carpenter | builds things of wood | in a workshop | a saw
painter | paints walls and pictures | in a studio | a brush
tailor | makes clothes | in a shop | a needle
pilot | flies planes | in the air | a plane
sailor | sails ships | at sea | a compass
fisher | catches fish | on the water | a net
miller | makes flour from grain | in a mill | a millstone
librarian | takes care of books | in a library | a catalogue
musician | plays music | on a stage | an instrument
astronomer | studies the stars | in an observatory | a telescope
programmer | writes programs | at a desk | a computer
postman | brings letters | in the streets | a bag
firefighter | puts out fires | all over the town | a hose
smith | makes things of iron | in a forge | a hammer
shepherd | looks after sheep | in the hills | a stick
""")

# country | capital | continent
COUNTRIES = rows("""
France | Paris | Europe
Germany | Berlin | Europe
Italy | Rome | Europe
Spain | Madrid | Europe
Portugal | Lisbon | Europe
England | London | Europe
Ireland | Dublin | Europe
Austria | Vienna | Europe
Greece | Athens | Europe
Poland | Warsaw | Europe
Norway | Oslo | Europe
Sweden | Stockholm | Europe
Finland | Helsinki | Europe
Denmark | Copenhagen | Europe
Hungary | Budapest | Europe
Japan | Tokyo | Asia
China | Beijing | Asia
India | New Delhi | Asia
Thailand | Bangkok | Asia
Egypt | Cairo | Africa
Kenya | Nairobi | Africa
Morocco | Rabat | Africa
Canada | Ottawa | North America
Mexico | Mexico City | North America
Cuba | Havana | North America
Brazil | Brasilia | South America
Peru | Lima | South America
Chile | Santiago | South America
Argentina | Buenos Aires | South America
Australia | Canberra | Australia
""")

OPPOSITES = rows("""
hot | cold
big | small
tall | short
long | short
fast | slow
happy | sad
light | dark
day | night
up | down
left | right
open | closed
full | empty
old | young
new | old
hard | soft
wet | dry
clean | dirty
rich | poor
strong | weak
loud | quiet
early | late
near | far
high | low
good | bad
true | false
easy | difficult
thick | thin
wide | narrow
heavy | light
sweet | sour
inside | outside
first | last
always | never
begin | end
win | lose
buy | sell
push | pull
laugh | cry
love | hate
give | take
come | go
remember | forget
question | answer
friend | enemy
summer | winter
north | south
east | west
black | white
before | after
above | below
""")

COLOURS = "red blue green yellow orange purple pink brown black white grey golden silver".split()
MIXES = rows("""
red | yellow | orange
blue | yellow | green
red | blue | purple
red | white | pink
black | white | grey
red | green | brown
""")
COLOURED = rows("""
the sky | blue
grass | green
snow | white
the sun | yellow
coal | black
a ripe tomato | red
a carrot | orange
milk | white
a leaf in summer | green
the night | black
a lemon | yellow
a cloud before rain | grey
blood | red
a ripe banana | yellow
chocolate | brown
""")

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()  # fmt: skip
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
SEASONS = "spring summer autumn winter".split()
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty".split()  # fmt: skip

NAMES = (
    "Anna Ben Clara David Emma Felix Greta Henry Ida Jonas Karl Lena Mara Nico Olga Paul Rosa Simon"
    " Tara Udo Vera Walter Yara Zoe Alice Bob Carol Dan Eve Frank Grace Hugo Iris Jack Kate Leo Mia"
    " Noah Oscar Pia Quinn Ruth Sam Tom Uma Victor Wendy Max Nora Lucy Peter Maria Sofia Amir Priya"
    " Chen Yuki Omar Fatima Ali Ivan Olivia Lucas Emily James Sarah Thomas Julia Mark Laura"
).split()
MEN = frozenset(
    "Ben David Felix Henry Jonas Karl Nico Paul Simon Udo Walter Bob Dan Frank Hugo Jack Leo Noah"
    " Oscar Sam Tom Victor Max Peter Amir Chen Omar Ali Ivan Lucas James Thomas Mark".split()
)
CITIES = [row[1] for row in COUNTRIES] + (
    "Hamburg Boston Chicago Lyon Milan Porto Geneva Zurich Bergen Kyoto Mumbai Toronto Sydney Leeds"
).split()
HOBBIES = "reading|painting|swimming|cooking|gardening|chess|music|dancing|hiking|cycling|fishing|football|tennis|drawing|singing|photography|sewing|programming|running|astronomy".split("|")  # fmt: skip
