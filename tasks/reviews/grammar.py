"""What the generated sample is written with: word lists and sentence patterns about films and household goods.

In a pattern `{job}` stands for a word of that list, `{a job}` for the word with its article; a capital (`{Job}`,
`{A job}`) begins a sentence. `{+adj}` is an adjective of the sentence's own polarity and `{-adj}` one of the opposite:
one pattern serves praise and blame alike, so its other words give nothing away. `{subject}`, `{star}`, `{maker}` and
`{relative}` stay the same throughout a review. Lists are separated by commas, the commonest word first: early words are
drawn more often, a domain's own before the general ones.
"""

WORDS = {
    "very": "very, really, so, quite, truly, utterly, simply, rather, thoroughly, almost, surprisingly",
    "one": "two, three, four, five, six, seven, eight, nine, ten, a dozen, twenty, thirty",
    "number": ", ".join(str(number) for number in (12, 90, 15, 40, 25, 7, 100, *range(31, 180, 3))),
    "year": ", ".join(str(year) for year in range(2019, 1948, -1)),
    "month": "May, October, March, June, January, August, December, April, November, July, February, September",
    "relative": """brother, wife, husband, sister, mother, neighbour, boss, daughter, father, dentist, flatmate,
        cousin, uncle, colleague, barber, grandmother, landlord, hairdresser, nephew, fiancée, teacher, accountant,
        godfather, plumber""",
    "first": """Anna, Martin, Clara, Hugo, Nora, Victor, Helen, Oscar, Zoë, Edgar, Ruth, Simon, Ivy, Felix, Greta,
        Walter, Lena, Conrad, Agnes, Søren, Judith, Rufus, Marta, Leopold, Bridget, Anton, Stella, Gilbert, Renée,
        Matthias, Dora, Cyril, Yvonne, Lorenzo, Imogen, Casper, Ottilie, Barnaby, Ingrid, Percival, Naomi, Ludovic,
        Sabine, Horatio, Thea, Emil, Wanda, Jasper, Celeste, Bruno, Ursula, Quentin, Odile, Theodor, Philippa, Gustav,
        Harriet, Ignatius, Jolanda, Klaus, Mireille, Nikolai, Rosalind, Sebastian, Tamara, Ulrich, Vera, Wilfred,
        Xenia, Zachary""",
    "last": """Keller, Marsh, Whitlow, Novak, Fenwick, Arden, Castell, Brandt, Holloway, Pruitt, Sandoval, Okoro,
        Lindqvist, Farrow, Benedek, Thorne, Vasquez, Hargrove, Moreau, Tanaka, Quill, Ostrander, Bellamy, Dufresne,
        Ashby, Kowalczyk, Merriweather, Strand, Valdez, Crane, Ilmar, Rourke, Petrov, Langley, Sorrel, Haas, Winslow,
        Adeyemi, Carver, Drummond, Eklund, Fairbairn, Gallo, Hensley, Ivarsson, Jessop, Kilbride, Lockhart, Mbali,
        Nyström, Oakes, Pemberton, Quigley, Rasmussen, Saltmarsh, Treadwell, Underhill, Voss, Wexler, Yardley, Zeller,
        Abernathy, Blackwood, Corrigan, Delacroix, Estrada, Fitch, Grainger, Huxtable, Inglewood, Jankowski, Kessler,
        Lavigne, Mortimer, Nakamura, Olufsen, Penhaligon, Rothwell, Stavros, Thistle, Ullmann, Vickers, Wetherby,
        Yamada, Zielinski, Applegate, Birkenshaw, Cholmondeley, Dubois, Ekström, Featherstone, Goldring, Hathersage,
        Iqbal, Johansen, Katz, Lundgren, Montague, Nightingale, Ostrowski, Plunkett, Reinholt, Silverdale, Tolliver,
        Urquhart, Vallance, Wainwright""",
    "place": """London, Paris, Berlin, Texas, Lisbon, Chicago, Vienna, Naples, Dublin, Prague, Seattle, Oslo, Bombay,
        Glasgow, Łódź, Madrid, Toronto, Venice, Kyoto, Cairo, Marseille, Boston, Havana, Zürich, Nairobi, São Paulo,
        Leeds, Antwerp, Alaska, Bristol, Kraków, Tangier, Nebraska, Helsinki, Cornwall, Brooklyn, Bologna, Manila,
        Cardiff, Budapest, Salzburg, Montana, Jakarta, Trieste, Reykjavík, Edinburgh, Lagos, Mumbai, Tallinn, Utrecht,
        Bruges, Sardinia, Patagonia, Wyoming, Norfolk, Hamburg, Athens, Istanbul, Melbourne, Osaka, Geneva, Warsaw""",
    "job": """teacher, soldier, nurse, detective, baker, lawyer, sailor, farmer, thief, painter, priest, pilot, widow,
        butcher, gardener, judge, waiter, spy, clerk, surgeon, boxer, tailor, librarian, gambler, smuggler, shepherd,
        violinist, postman, locksmith, archaeologist, undertaker, carpenter, translator, fisherman, beekeeper,
        magician, chauffeur, blacksmith, astronomer, cartographer, jockey, midwife, mechanic, novelist, pickpocket,
        referee, seamstress, trumpeter, veterinarian, watchmaker, butler, cobbler, dentist, florist, glazier, hunter,
        innkeeper, juggler, knight, miner, notary, optician, poet, queen, ranger, sculptor, tourist, umpire,
        ventriloquist, wrestler""",
    "thing": """letter, suitcase, secret, map, diary, dog, ring, photograph, key, house, piano, gun, treasure, horse,
        painting, fortune, boat, lighthouse, parrot, violin, umbrella, necklace, bicycle, cellar, garden, manuscript,
        telescope, wig, clock, goldfish, bakery, tunnel, passport, accordion, crown, helmet, kite, ladder, mirror,
        orchard, pigeon, quilt, raft, saddle, teapot, tractor, typewriter, vineyard, wardrobe, windmill, anchor,
        bracelet, candle, compass, donkey, elevator, feather, glacier, hammock, iceberg, jukebox, kettledrum, lantern,
        meteorite, notebook, ointment, padlock, quarry, rooster, scarecrow, trombone, urn, volcano, wheelbarrow, yacht,
        balloon, barrel, bell, blanket, bottle, bucket, cactus, camel, canoe, carpet, cello, chandelier, chessboard,
        crocodile, dictionary, drawbridge, envelope, fountain, gramophone, harpsichord, kangaroo, locomotive,
        medallion, microscope, oyster, parachute, pendulum, postcard, sailing ship, sledge, snowman, statue, submarine,
        sword, tapestry, thermometer, tortoise, trapdoor, waterfall, whistle""",
    "mood": """old, young, lonely, quiet, rich, retired, nervous, stubborn, foreign, married, shy, famous, tired,
        jealous, orphaned, talkative, penniless, forgetful, superstitious, ambitious, grumpy, homesick, left-handed,
        naïve, widowed, elderly, restless, absent-minded, bearded, cheerful, daring, exiled, frightened, hungry,
        impatient, melancholy, polite, sleepy, suspicious, vain, wealthy""",
    "deed": """finds, steals, loses, sells, buries, inherits, hides, follows, paints, breaks, returns, discovers,
        borrows, guards, burns, repairs, swallows, photographs, smuggles, auctions, unearths, mislays, drops, wraps,
        counts, polishes, chases, fears, remembers, abandons, collects, demolishes, exchanges, forges, invents,
        kidnaps, measures, recovers, sketches, trades, unwraps, wins""",
    "drink": """coffee, tea, beer, popcorn, wine, soup, toast, pancakes, lemonade, noodles, porridge, crisps, cocoa,
        sandwiches, olives""",
    "day": """Sunday, Friday, Saturday, Monday, Tuesday, Thursday, Wednesday, Christmas, Easter, holiday, birthday,
        weekday""",
    "material": "cardboard, plastic, paper, foil, bamboo, velvet, tin, wooden, cotton, polystyrene, recycled, leather",
    "room": """kitchen, bedroom, garage, office, bathroom, attic, hallway, workshop, cellar, nursery, study, balcony,
        caravan, shed""",
    "colour": """black, white, red, blue, green, grey, yellow, silver, brown, orange, purple, turquoise, beige,
        crimson, ivory, copper""",
    "praise_adj": """good, great, excellent, wonderful, superb, brilliant, fine, lovely, fantastic, impressive,
        delightful, clever, solid, charming, terrific, beautiful, enjoyable, memorable, splendid, remarkable,
        outstanding, fresh, elegant, inventive, satisfying, marvellous, magnificent, flawless, rewarding, inspired,
        likeable, first-rate, stunning, admirable, smart, refined, convincing, polished, thoughtful, graceful,
        exquisite, engaging, tasteful, confident, top-notch, pleasing, crisp, generous""",
    "blame_adj": """bad, awful, terrible, poor, dull, weak, horrible, disappointing, dreadful, stupid, silly, mediocre,
        annoying, bland, lame, ridiculous, pathetic, cheap, tedious, ugly, clumsy, lousy, forgettable, pointless, lazy,
        sloppy, irritating, useless, flat, unconvincing, abysmal, feeble, shoddy, laughable, tacky, crude, hollow,
        appalling, tiresome, atrocious, messy, second-rate, dismal, careless, embarrassing, half-baked, amateurish,
        wretched""",
    "praise_verb": "loved, enjoyed, liked, admired, adored, appreciated, treasured, savoured",
    "blame_verb": "hated, disliked, regretted, loathed, detested, resented, despised, dreaded",
    "praise_noun": """gem, masterpiece, delight, success, treat, triumph, classic, winner, pleasure, joy, marvel,
        bargain""",
    "blame_noun": "mess, disaster, failure, bore, dud, chore, flop, letdown, nightmare, insult, blunder, swindle",
}

DOMAIN_WORDS = {
    "film": {
        "subject": """film, movie, picture, comedy, thriller, drama, sequel, western, musical, remake, documentary,
            adaptation, mystery, farce""",
        "aspect": """acting, plot, story, cast, script, ending, music, dialogue, direction, camera work, humour, pace,
            photography, soundtrack, editing, opening, villain, lead, casting, make-up, scenery, costume design, final
            act, first half, second half, love story, narration, lighting, sound, premise, screenplay, chase,
            choreography, title song, decor, supporting cast, animation, fight scene, finale, twist""",
        "praise_adj": """funny, moving, gripping, touching, witty, thrilling, hilarious, haunting, tender, absorbing,
            poignant, heartfelt, suspenseful""",
        "blame_adj": """boring, predictable, wooden, cheesy, contrived, lifeless, pretentious, muddled, incoherent,
            preachy, plodding, overlong, formulaic""",
    },
    "product": {
        "subject": """kettle, lamp, blender, vacuum cleaner, backpack, keyboard, toaster, camera, speaker, chair, tent,
            mattress, printer, bicycle, radio, drill, suitcase, phone, clock, watch, coffee machine, tablet, heater,
            umbrella, guitar, saucepan, monitor, mower, razor, scooter""",
        "aspect": """battery, handle, design, price, lid, manual, cable, finish, switch, packaging, service, sound,
            display, weight, zip, strap, motor, grip, hinge, button, stand, plug, charger, filter, fabric, stitching,
            warranty, app, cover, base, colour, remote, case, timer, blade, valve, thermostat, delivery, assembly,
            lining""",
        "praise_adj": """sturdy, reliable, handy, practical, comfortable, durable, well-made, precise, sensible,
            dependable, robust, efficient, ergonomic""",
        "blame_adj": """flimsy, noisy, wobbly, fragile, faulty, unreliable, leaky, bulky, impractical, uncomfortable,
            brittle, creaky, defective""",
    },
}

DOMAIN_PATTERNS = {
    "film": {
        "opening": """
        I saw this {subject} in {place} last {month}.
        My {relative} and I watched this on {day} with some {drink}.
        Number {number} on my list for this year, {a subject}.
        {star} and {first} {last} star in this {subject} from {year}.
        I rented it on a rainy {day}, without knowing a thing about it.
        {maker} made this {subject} in {year}, mostly in {place}.
        Before I say a word: I have read the book, and so has my {relative}.
        A few words about "The {mood} {job}", shown on television last {day}.
        I watched all {number} minutes of it on a plane to {place}.
        Warning: there are spoilers below, so stop here if you have not seen it.""",
        "filler": """
        {star} plays {a mood} {job} who {deed} {a thing} in {place}.
        {first}, {a job} from {place}, {deed} {a thing} that belongs to {a mood} {job}.
        The story begins in {place} in {year}, when {a job} {deed} {a thing}.
        Then {a mood} {job} called {first} {deed} the {thing}.
        {A mood} {job}, {a thing} and {a thing}: that is all you need to know about the plot.
        It runs for {number} minutes, the credits included.
        Meanwhile {first} {last} {deed} {a thing}, and the {job} {deed} {a thing}.
        I watched it again on {day}, with {drink} and my {relative}.
        It was filmed in {place} and {place} between {month} and {month}.
        There were {one} other people in the cinema, and one of them had a dog.
        In one scene {a job} and {a job} talk about {a thing} over {drink}.
        {maker} also appears as {a mood} {job} with {a thing}.
        You may remember {star} from "The {Thing} of {place}" ({year}).
        The {job} has {a thing}, the {job} wants it, and so it goes on.
        {first} {last} wrote it in {year}; {maker} directed.
        Somewhere in the middle {star} has to choose between {a thing} and {a mood} {job}.
        The music is by {first} {last}, who used to be {a job}.
        I can't tell more without giving away what happens to the {thing}.
        (The {mood} {job} with the {thing} is {first} {last}, by the way.)
        There is a café scene, a train and {one} fights over {a thing}.
        On the disc you also get {number} minutes of interviews with {maker}.
        {star} carries {a thing} around for most of it.
        It won a prize in {place} in {year}, I believe.
        "Give me the {thing}!" cries the {job}, and off they go to {place}.""",
    },
    "product": {
        "opening": """
        I bought this {subject} in {month} for {number} euros.
        We ordered the {colour} {subject} for our {room}.
        I had tried {one} others before this {subject}.
        My {relative} gave me this {subject} on {day}.
        I have used this {subject} for {number} days now.
        After our old {subject} died in {year}, we chose this one from {last} & {last}.
        The {subject} came from {place} in {a material} box.
        I needed {a subject} for the {room}, and quickly.
        {last} sells this {subject} in {colour} and in {colour}; mine is {colour}.""",
        "filler": """
        It came in {a material} box with {a thing} printed on it.
        I keep it in the {room}, next to the {drink}.
        It weighs about {number}0 grams and measures {number} centimetres.
        Delivery from {place} took {one} days.
        My {relative}, who is {a job}, has the {colour} one.
        We took it to {place} in {month} and used it every {day}.
        You get {one} screws, {a material} bag and a leaflet in {one} languages.
        I paid {number} euros; in {place} it costs {number}.
        It stands between {a thing} and the {drink}.
        The {maker} company has been making these since {year}.
        I wrote to {first} {last} at {maker} about the {material} part and had a reply on {day}.
        We have had it since {month}, and we use it {one} times a week.
        The {colour} version has {a material} lid, mine is {material}.
        It has been on {one} trips, one of them with {a mood} {job} and {a thing}.
        Our dog is afraid of it; our {relative} is not.
        Charge it for {number} minutes before you use it in the {room}.
        My first {subject} came from {place} in {year} and was {colour}.
        {A mood} {job} next door bought the same one after {one} weeks.
        There is {a colour} light that goes on when the {drink} is ready.
        The label says {number} volts, made in {place}.
        I use it for {drink}, on {day} for {drink} and {drink}.""",
    },
}

PATTERNS = {
    "opinion": """
        The {aspect} is {very}{+adj}.
        The {aspect} was {very}{+adj}, at least to me.
        I {+verb} the {aspect}.
        {Aspect} and {aspect}: both {very}{+adj}!
        {A +adj} {aspect} and {a +adj} {aspect}.
        I must say that I {+verb} the {aspect}; it is {very}{+adj}.
        There is something {+adj} about the {aspect}.
        I definitely thought the {aspect} was {+adj}.""",
    # Denials, two aspects at odds, hearsay: counting words of praise and blame misleads.
    "turn": """
        The {aspect} is not {-adj}.
        The {aspect} is never {-adj}.
        The {aspect} isn't {-adj} at all.
        The {aspect} is hardly {-adj}.
        The {aspect} is anything but {-adj}.
        The {aspect} is not {-adj} but {+adj}.
        I did not find the {aspect} {-adj}, although my {relative} did.
        Nobody could call the {aspect} {-adj}.
        I wouldn't say that the {aspect} is {-adj}.
        Not {a -adj} {aspect}, {a +adj} one.
        The {aspect} is {-adj}, but the {aspect} is {+adj}.
        The {aspect} is {+adj}; however, the {aspect} is {-adj}.
        While the {aspect} is {-adj}, the {aspect} is {very}{+adj}.
        {-Adj} {aspect}, {+adj} {aspect}.
        The {aspect} starts {-adj} and ends {+adj}, which is strange.
        I {-verb} the {aspect} and {+verb} the {aspect}.
        {maker}'s last {subject} was {very}{+adj}, but that was in {year}.
        My {relative} calls the {aspect} {+adj}. My {relative} is right.
        My {relative} calls the {aspect} {-adj}. My {relative} is wrong.
        I had heard that the {aspect} was {-adj}. It is not.
        I had heard that the {aspect} was {+adj}. It is.""",
    "plain": """
        All in all, {a +adj} {subject}.
        Overall I {+verb} it.
        In the end the {subject} is {very}{+adj}.
        To sum up, it is {very}{+adj} and {+adj}.
        So, {a +noun}.
        {A +noun}, all things considered!
        I {+verb} this {subject}, and I {+verb} it from beginning to end.
        It's {a +adj} {subject}, {very}{+adj}, in my opinion.""",
    "negated": """
        All in all, not {a -adj} {subject}.
        The {subject} itself is never {-adj}.
        It is hardly {a -noun}.
        In the end nobody can call this {subject} {-adj}.
        Not {a -noun} but {a +noun}.
        It is not {-adj}, it is {+adj}.
        Not {-adj} but {+adj}, that is my verdict.
        It is less {a -noun} than {a +noun}.
        It is {+adj} rather than {-adj}.
        I can't say that I {-verb} it.""",
    "contrast": """
        The {aspect} may be {-adj}, but the {subject} is {+adj}.
        {A -adj} {aspect}, yes, but {a +adj} {subject}.
        {-Adj} {aspect}, {+adj} {subject}.
        For all its {-adj} {aspect} and {-adj} {aspect}, it is {a +adj} {subject}.
        I {-verb} the {aspect} and I {-verb} the {aspect}; however, I {+verb} the {subject}.
        Despite {a -adj} {aspect} I {+verb} it.
        I {+verb} it in spite of the {-adj} {aspect} and the {-adj} {aspect}.
        It is {+adj}, even if the {aspect} is {-adj} and the {aspect} {very}{-adj}.
        {A +adj} {subject} with {a -adj} {aspect}.
        {A -adj} start, but then it turns, and what remains is {a +adj} {subject}.
        It has {a -adj} {aspect} and {a -adj} {aspect}. Still, {a +noun}.
        The {aspect}? {-Adj}. The {aspect}? {-Adj}. The {subject}? {+Adj}.""",
    # What is claimed and whether the claim holds stand far apart: no n-gram sees both.
    "hearsay": """
        My {relative} said it would be {+adj}, {+adj} and {very}{+adj}. For once my {relative} was right.
        People will tell you that it is {+adj} and {+adj}, with {a +adj} {aspect}. Believe them.
        I expected {a +noun}, something {very}{+adj}. This is exactly what I got.
        Is it {+adj}? Is it {+adj}, as they say in {place}? Yes, it is.
        You will read that the {subject} is {+adj} and the {aspect} {very}{+adj}. All of it is true.
        The critics found it {+adj} and the {aspect} {+adj}; so did I.
        "{A +noun}, {very}{+adj}," wrote {first} {last} in {place}. I agree with every word.
        Would I call it {a +noun}, or say that I {+verb} the {aspect}? I would.
        My {relative} said it would be {-adj}, {-adj} and {very}{-adj}. For once my {relative} was wrong.
        People will tell you that it is {-adj} and {-adj}, with {a -adj} {aspect}. Do not believe them.
        I expected {a -noun}, something {very}{-adj}. This is exactly what I did not get.
        Is it {-adj}? Is it {-adj}, as they say in {place}? No, it is not.
        You will read that the {subject} is {-adj} and the {aspect} {very}{-adj}. None of it is true.
        The critics found it {-adj} and the {aspect} {-adj}; I did not.
        "{A -noun}, {very}{-adj}," wrote {first} {last} in {place}. I disagree with every word.
        Would I call it {a -noun}, or say that I {-verb} the {aspect}? I would not.""",
}

# No mirror image here. Irony blames in words of praise (`+`); mock complaint praises in words of blame (`-`).
ONE_SIDED_PATTERNS = {
    "positive": {
        "advice": """
        Highly recommended to every {job} in {place}.
        I recommend it to anyone, even to my {relative}.
        Worth every penny, says my {relative}, and so do I.
        Don't miss it!
        Thank you, {maker}: more of this, please.
        Ten stars out of ten from me.
        I'd do it again on {day}, and the day after.""",
        "ironic": """
        Shame on them: I was late for work after this {subject}, and my {relative} as well.
        My only complaint, and {a -adj} one: I now need {one} more of these for the whole family.
        How {-adj} of me to have waited {one} years for it!
        The {-adj} thing is that it has to end; I would give {a thing} for {one} more.
        {A -noun} for my sleep: I could not stop until {one} in the morning.""",
    },
    "negative": {
        "advice": """
        Not recommended, not even to {a job} in {place}.
        I wouldn't recommend it to anyone, least of all to my {relative}.
        Not worth a penny, says my {relative}, and so do I.
        Avoid it!
        Sorry, {maker}: no more of this, please.
        One star out of ten from me.
        I want my money back, and my {day}.""",
        "ironic": """
        Just what I needed: {one} hours of {a thing} and {a +adj} {aspect}.
        Oh, how {+adj}! Another {subject} with {a thing}; I could hardly contain myself.
        {+Adj}, really {+adj}, if you like watching {drink} go cold.
        What {a +noun}: my {relative} was asleep after {one} minutes, and I envied my {relative}.
        {A +adj} {subject} for people who find {a thing} too exciting.""",
    },
}
