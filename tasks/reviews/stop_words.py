"""English function words as NLTK lists them: what the article removes. They include *not*, so only the tutorial preset uses them.

Pinned here because the article's `nltk.download` needs a network and gives whatever list is current; a test compares with NLTK's
own file where one is installed. Source: Porter et al., in NLTK's `stopwords` corpus (179 English words).
"""

PRONOUNS = """i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself
it its itself they them their theirs themselves what which who whom this that these those"""
VERBS = "am is are was were be been being have has had having do does did doing can will should"
CONNECTIVES = """a an the and but if or because as until while of at by for with about against between into through during
before after above below to from up down in out on off over under again further then once here there when where why how"""
QUANTIFIERS = "all any both each few more most other some such no nor not only own same so than too very just now"
CONTRACTIONS = """you're you've you'll you'd she's it's that'll don't should've aren't couldn't didn't doesn't hadn't hasn't haven't
isn't mightn't mustn't needn't shan't shouldn't wasn't weren't won't wouldn't"""
# What is left of a contraction once its apostrophe has become a space.
STUMPS = """s t d ll m o re ve y don ain aren couldn didn doesn hadn hasn haven isn ma mightn mustn needn shan shouldn wasn weren
won wouldn"""

ENGLISH_STOP_WORDS: tuple[str, ...] = tuple(" ".join([PRONOUNS, VERBS, CONNECTIVES, QUANTIFIERS, CONTRACTIONS, STUMPS]).split())
