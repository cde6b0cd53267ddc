"""Things the model can explain: (what is asked for, two or three sentences)."""

from __future__ import annotations

from tools.demo.text.phrases import rows

# question words | the thing | explanation
WHY = rows("""
the sky is blue | Sunlight is made of many colours. The air scatters blue light more than red light, so blue reaches our eyes from every side.
the sky is red in the evening | In the evening the light comes a long way through the air. Most of the blue is scattered away, and the red light is left.
it rains | Water rises from the sea as vapour and cools in the air. It forms clouds, and when the drops are heavy enough they fall as rain.
leaves fall in autumn | In autumn there is less light and it gets cold. Trees drop their leaves to save water during the winter.
leaves are green | Leaves hold a green material that catches sunlight. With that light the plant makes its food.
the sea is salty | Rivers wash a little salt out of the rocks and carry it to the sea. The water rises again as vapour, but the salt stays.
we sleep | Sleep gives the body and the mind time to rest. While we sleep, we grow, we heal, and we sort what we learned.
we dream | Nobody knows exactly why we dream. Perhaps the mind is sorting what it saw during the day.
ice floats | Ice is lighter than water, because water grows when it freezes. That is why lakes freeze from the top.
bread rises | Yeast eats sugar in the dough and makes small bubbles of gas. The bubbles make the dough rise.
onions make us cry | When you cut an onion, it lets out a sharp gas. The gas stings the eyes, and tears wash it away.
birds fly south | In winter there is little food in the north. Many birds fly south, where it is warm and there is enough to eat.
cats purr | A cat often purrs when it feels safe and happy. Sometimes it also purrs to calm itself.
the moon changes its shape | The sun always lights one half of the moon. As the moon moves around us, we see more or less of the bright half.
we have seasons | The axis of the earth is tilted. For half of the year the north gets more sun, and for the other half the south does.
it is dark at night | The earth turns once a day. At night our side looks away from the sun, so it is dark.
stars twinkle | The light of a star passes through moving air. The air bends the light a little, now here and now there, so the star seems to twinkle.
we need water | Every part of the body needs water to work. We lose some all day, so we have to drink.
we wash our hands | There are tiny germs on our hands. Soap and water take them away, so we do not get sick.
wood floats | Wood is lighter than water of the same size. So the water carries it.
metal feels cold | Metal takes heat from your hand very quickly. So it feels cold, although it is as warm as the room.
a rainbow appears | A rainbow appears when the sun shines into rain. Each drop splits the light into its colours.
we see lightning first | Light is much faster than sound. So we see the lightning first and hear the thunder later.
old books smell | Paper slowly falls apart with time. It lets out small amounts of sweet and dusty smells.
people laugh | People laugh when something is funny or when they feel well together. Laughing makes us friends.
""")

WHAT = rows("""
rain | Rain is water that falls from clouds in drops. Plants, animals and people need it.
snow | Snow is frozen water that falls from cold clouds. Each flake is a small crystal of ice with six arms.
wind | Wind is moving air. It blows because the sun warms some places more than others.
a cloud | A cloud is made of very small drops of water or ice that float in the air.
thunder | Thunder is the sound of lightning. The lightning heats the air so fast that it bursts outwards.
the sun | The sun is a star, a very hot ball of gas. It gives us light and warmth.
the moon | The moon is a ball of rock that moves around the earth once a month. It shines because the sun lights it.
a star | A star is a huge ball of hot gas that gives its own light. Most of them are very far away.
a planet | A planet is a large ball that moves around a star. Our earth is a planet.
a river | A river is water that flows through the land to a lake or to the sea.
a mountain | A mountain is a very high piece of land. On top of it, it is cold and windy.
a desert | A desert is a dry place where it almost never rains. Only few plants and animals can live there.
an island | An island is land with water all around it.
a volcano | A volcano is a mountain with an opening. Sometimes hot melted rock comes out of it.
a forest | A forest is a large place full of trees. Many animals live there.
a seed | A seed is the beginning of a plant. With water, warmth and time it grows.
a flower | A flower is the part of a plant that makes seeds. Its colour and smell call the bees.
a tree | A tree is a tall plant with a trunk of wood, branches and leaves. It can live for hundreds of years.
honey | Honey is a sweet food that bees make from the nectar of flowers.
bread | Bread is a food of flour, water, salt and yeast. It is baked in an oven.
a computer | A computer is a machine that follows instructions very quickly. It can work with numbers, words, pictures and sound.
a program | A program is a list of instructions for a computer. Somebody wrote it so that the computer can do a task.
the internet | The internet joins computers all over the world. They send each other messages in small packets.
a server | A server is a program that waits for requests and answers them. Many clients can ask it at the same time.
a CPU | A CPU is the part of a computer that carries out instructions. It has several cores that work side by side.
a cache | A cache keeps things that were needed before, so that they need not be computed again.
a thread | A thread is one line of work in a program. Several threads can run at the same time on several cores.
memory | The memory of a computer holds the numbers it works with. Reading it takes time, so fast programs read little.
a token | A token is a piece of text, often a word or a part of a word. Language models read and write tokens.
a language model | A language model reads text and guesses the next token, again and again. That is how I write this answer.
a prompt | A prompt is the text that you give to a language model. The model goes on from there.
a kernel | A kernel is a small and fast function that does the heavy arithmetic of a program.
quantization | Quantization stores the weights of a model with few bits. The file gets smaller and reading it gets faster.
attention | Attention lets a model look back at all earlier tokens. The further back it looks, the more it costs.
a recurrent state | A recurrent state is a fixed amount of memory that a model updates with every token. It does not grow with the text.
a bug | A bug is a mistake in a program. Tests help to find it.
a test | A test runs a part of a program and looks whether the answer is right.
music | Music is sound in a pleasing order. It can make us happy, sad or calm.
a story | A story tells what happened to somebody. It has a beginning, a middle and an end.
a friend | A friend is somebody you like and trust. Friends help each other.
time | Time is what a clock measures. It goes on and on, and never back.
a week | A week has seven days, from Monday to Sunday.
a year | A year is the time in which the earth moves once around the sun. It has twelve months or 365 days.
gravity | Gravity pulls things towards each other. It keeps us on the ground and the moon near the earth.
electricity | Electricity is the movement of tiny charges through a wire. It lights our lamps and runs our machines.
a magnet | A magnet pulls iron towards it. It has a north pole and a south pole.
fire | Fire is what we see when something burns. It needs fuel, heat and air.
ice | Ice is frozen water. Water freezes at zero degrees.
steam | Steam is water that became a gas. Water boils at one hundred degrees.
""")

HOW = rows("""
make tea | First, boil some water. Then pour it over the tea and wait for three minutes. Take the tea out and enjoy your cup.
boil an egg | Put the egg into boiling water. Wait for six minutes if you like it soft, and ten minutes if you like it hard. Then cool it with cold water.
bake bread | Mix flour, water, salt and yeast. Let the dough rest until it is twice as large. Then bake it in a hot oven for about forty minutes.
make soup | Cut some vegetables into small pieces. Boil them in water with a little salt for twenty minutes. Taste it, and add herbs if you like.
make pancakes | Mix flour, milk and eggs. Pour a little of it into a hot pan with butter. Turn the pancake when it is golden.
cook rice | Take one cup of rice and two cups of water. Bring it to a boil, then cook it gently for fifteen minutes with the lid on.
make a salad | Wash the vegetables and cut them. Add a little oil, salt and lemon juice. Mix everything well.
plant a tree | Dig a wide hole. Put the young tree into it, fill it with earth, and give it plenty of water.
grow tomatoes | Put the seeds into warm earth in spring. Give the plants sun and water. In summer you can pick the red fruit.
brush your teeth | Put some paste on the brush. Brush every side of your teeth for two minutes. Then rinse with water.
wash your hands | Wet your hands and take some soap. Rub them for twenty seconds. Then rinse and dry them.
sleep well | Go to bed at the same time every day. Keep the room dark and quiet. Do not look at a screen just before.
learn a language | Learn a few new words every day. Read easy texts, listen, and speak without fear. Mistakes are part of it.
write a letter | Begin with a greeting. Then say what you want to say in short sentences. End with your name.
tie a knot | Cross the two ends and pull one through. Then do it once more the other way around, and pull it tight.
paint a wall | Clean the wall first. Cover the floor with paper. Then paint from the top to the bottom and let it dry.
repair a bicycle | First, find out what is broken. Put oil on the chain and air into the tyres. If the brakes are loose, tighten them.
draw a house | Draw a square for the walls and a triangle for the roof. Add a door and two windows. Do not forget the chimney.
feed a cat | Give the cat fresh food twice a day. Always put a bowl of clean water beside it.
stay healthy | Eat fruit and vegetables, drink water, move every day and sleep enough.
save water | Close the tap while you brush your teeth. Take short showers. Use the rain for your garden.
make a friend | Be kind and listen. Ask questions, share something, and be patient.
find north | Look where the sun is at noon: in the northern half of the world, it is in the south. North is behind you then. A compass helps, too.
count to ten | One, two, three, four, five, six, seven, eight, nine, ten.
write a program | Say first what it shall do. Split it into small steps. Write each one, test it, and put them together.
""")

JOKES = rows("""
Why did the bicycle fall over? Because it was two tired.
What do you call a bear without teeth? A gummy bear.
Why did the computer go to the doctor? It had a virus.
What has hands but cannot clap? A clock.
Why do bees hum? Because they forgot the words.
What has a neck but no head? A bottle.
Why was the cache so calm? It had seen it all before.
What gets wetter the more it dries? A towel.
What is full of holes but still holds water? A sponge.
Why did the token cross the stream? To get to the other slot.
What can you catch but not throw? A cold.
What has many teeth but cannot bite? A comb.
""")

RIDDLES = rows("""
What has to be broken before you can use it? | an egg
What goes up but never comes down? | your age
What has one eye but cannot see? | a needle
What has legs but does not walk? | a table
What can travel around the world and stay in a corner? | a stamp
What has words but never speaks? | a book
What runs but has no legs? | water
What is yours, but others use it more than you do? | your name
""")
