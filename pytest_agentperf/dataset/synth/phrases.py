"""Sentence templates: comments, documentation, log messages, commit subjects, and how an agent thinks aloud."""

DOCS = (
    "<return|compute|look up|build> the {noun} <of|for|behind> <a|the given|the current> {noun}<, or nothing if it has no {field}||>",
    "<keeps|holds|owns|tracks> <every|each|the> {noun} <that|which> <is waiting for|belongs to|depends on> a {noun}",
    "<merge|combine|fold> <two|several|all> {noun}s <into one|by their {field}|without losing the {field}>",
    "<turn|translate|convert> a {noun} into <the form that|what> the {noun} <expects|understands|stores>",
    "<true|holds> <if|when> the {noun} <has|still has|no longer has> a <valid|usable|recent> {field}",
    "<called|runs> <once per|before each|after every> {noun}<; must not block|; cheap enough for hot paths||, never twice>",
    "<drops|forgets|removes> {noun}s <older than|beyond|below> <the|its> {field}<, newest first|, oldest first|>",
    "<a small|the only|one> <place|layer|type> <between|that joins> the {noun} and <its|the> {noun}s",
    "<reads|parses|accepts> what `{fn}` <wrote|left|sent>, <including|except for|with> <old|partial|empty> {noun}s",
    "<splits|divides> the {field} <over|between|among> {noun}s <evenly|in order|by weight>",
    "how <long|often|many times> a {noun} <may|can|should> <wait|be tried|stay> before the {noun} gives up",
    "<not thread safe|safe to call from any thread>: <the caller|`{fn}`> <holds|takes|must hold> the {noun} lock",
)
COMMENTS = (
    "<the|a> {noun} may <be|have been> <gone|closed|replaced|renamed> by <now|another {noun}|the time we get here>",
    "<keep|leave> the {field} as it is: the {noun} <compares|checks|reads> it <later|again|once more>",
    "<see|compare|as in> `{fn}`, which <does the same|has to agree|must not differ>",
    "<older|newer|some> {noun}s <come|arrive|are stored> without <a|any> {field}",
    "<todo|note|careful>: {n} is <what the {noun} uses|too much for a small {noun}|only a guess>",
    "<sorted|grouped|cached> <so that|because> the {noun} <stays stable|is found quickly|does not move>",
    "<first|then|finally> the {noun}, <because|so that|since> it <decides|changes|limits> the {field}",
    "<avoid|skip|do not> <counting|touching|copying> the {noun} <twice|while it is open|in the common case>",
    "an empty {noun} is <not an error|the usual case|fine> <here|after a restart|on the first run>",
    "<off by one would|a wrong {field} would|a missing {noun} would> <show|surface|hurt> <only|first> in `{fn}`",
)
LOGS = (
    "<could not|cannot|failed to> <find|open|update|release> the {noun}",
    "{noun} <without|has no|lost its> {field}",
    "<skipping|dropping|ignoring> <a|one|the> {noun} <with|because of its> {field}",
    "<unexpected|negative|unknown> {field} <of|for|in> {noun}",
    "{noun} <started|finished|reached its {field}|was closed>",
    "too many {noun}s <per|for one|in the> {noun}",
    "<retrying|waiting for> {noun} <after|until> {field}",
    "{noun} <does not match|differs from> {noun}",
)
COMMITS = (
    "<fix|correct|repair> {field} of <empty|nested|expired|old> {noun}s",
    "<{area}|ci|docs|test|build>: <update|pin|simplify|document> {noun} <handling|settings|defaults>",
    "<move|extract|rename> `{fn}` <to|into|out of> {area}",
    "<add|cover> <a test|tests> for <the|a> {noun} <limit|timeout|order>",
    "<speed up|cache|avoid> <repeated|needless|slow> {noun} <lookups|copies|scans>",
    "<bump|upgrade> {lib} to {n}.{n}",
    "<do not|never> <drop|keep|log> {noun}s <without|with an empty> {field}",
    'revert "<change|allow|rework> {noun} {field}"',
)
# What an agent knows while it thinks: {sym} a function, {file} a path, {line} a number, {quote} a line of code it saw,
# {noun}, {field}, {n}, {test} a test's name.
THOUGHTS = (
    "<So|Okay, so|Now|Right,> `{sym}` <is called from|is used by|feeds> `{sym}`, <and that one|and|which then> <passes|hands|sends> the {field} <on unchanged|to the {noun}|through>.",
    "<Looking at|In|Going back to> {file}<:{line}|>, I see `{quote}`.",
    "<That|This> <means|implies|suggests> <that |>the {noun} <is|gets|ends up> <computed|stored|compared> <before|after|without> the {field} <is known|was updated|has been checked>.",
    "<Wait|Hmm|Hold on>, <but |>`{quote}` <would|should|can> only <run|matter|be reached> <if|when> the {field} is <larger than {n}|zero|already set>.",
    "<Let me|I should|I'll> <check|verify|look at> <whether|if> `{sym}` <handles|covers|expects> <the case of |>an empty {noun}<| as well|, too>.",
    "The <test|case> `{test}` <expects|asserts|wants> {n}, <but|while> <the code|this path|`{sym}`> <gives|returns|produces> {n}.",
    "<One|Another> <possibility|option|idea>: <change|adjust|guard> `{sym}` so that <it|the {noun}> <returns early|keeps its {field}|raises> <when|if> the {field} is <missing|negative|stale>.",
    "<But|However,> that <would break|changes|affects> <the callers in|the behaviour of|what is tested in> {file}, <so|and> <I'd rather not|it needs care|that is out of scope>.",
    "The <error|message|trace> <says|points to|mentions> line {line} <of|in> {file}, <which is|where we have> `{quote}`.",
    "<Actually|In fact|Thinking about it>, the {noun} and the {noun} <share|use different|both have a> {field}<, so they can get out of step|, which explains the mismatch|>.",
    "<First|To start|Before anything else>, I <need to know|want to understand|have to find out> <where|how|when> the {field} <of the {noun} |>is <set|reset|read>.",
    "<The fix|What I need|A minimal change> <is|would be> <to move|moving|to replace> `{quote}` <above|below|outside> <the loop|the check|the call of `{sym}`>.",
    "<There are|I count|It has> {n} <callers|usages|places>, <most of them|all|some> in {file}.",
    "<Since|Because|As> `{sym}` <does not know|never sees|ignores> the {noun}, <the {field} stays|it keeps|we get> <stale|at {n}|whatever it was before>.",
    "<I|We> <could|can> <also|instead> <add|write|extend> a test <like|next to> `{test}` <that|which> <covers|exercises> the {noun} <with|without> {field}.",
    "Is <this|that|it> <intended|on purpose|a regression>? <The history might tell.|The comment above says nothing.|The name `{sym}` suggests otherwise.>",
    "<The docs|The README|A comment> <say|says|claims> that a {noun} <must|may|can> <have|keep> at most {n} {noun}s.",
    "With {field} = {n}, the <first|second|last> <branch|iteration|comparison> <gives|yields> {n}, <which is fine|and that is wrong|so the loop ends>.",
    "<If|When> <the|a> {noun} <arrives|is added> <twice|late|out of order>, `{sym}` <runs|is entered> <again|a second time>, <and|so> the {field} <doubles|is overwritten|is counted twice>.",
    "<Nothing|No code> <else|in {file}> <depends on|reads> <this|that> {field}, <so it is safe|as far as I can see|except `{sym}`>.",
    "<I'll|Let me> <keep|leave> the signature of `{sym}` <as it is|unchanged>, <because|since> {file} <imports|uses> it.",
    "<That|This> <looks|seems> <right|suspicious|fine|odd>: `{quote}`.",
    "<Next|After that|Then> I <run|should run> the tests <of|around> the {noun} <again|once more|to be sure>.",
    "<Alternatively|Or>, the {noun} <could|might> <own|carry|remember> its {field}, and `{sym}` <only|just> <asks for|compares> it.",
    "<The|Its> <type|signature|default> <of|for> `{sym}` <says|is> <a {noun}|a list|optional>, <yet|but|and> <line {line}|the caller> <treats|uses> it as <a number|never empty|a {noun}>.",
    "<Edge cases|Cases to cover|What can go wrong>: <no {noun}s at all|an expired {noun}|two {noun}s of equal {field}>, <a {field} of 0|a {field} of {n}|a negative {field}>, <and|or> <a {noun} that was removed meanwhile|a reload in between|an interrupted run>.",
)
SAYS = (
    "<Let me|I'll|Now I'll> <look at|read|check|open> <{file}|`{sym}`|the tests of the {noun}>.",
    "<Found it|There it is|I see>: `{sym}` <ignores|overwrites|never checks> the {field}.",
    "<Now|Next,> <the tests|a test for the {noun}|the callers of `{sym}`>.",
    "<The|That> {noun} <part|path> <works|is done|passes>. <Next|Now> <the {noun}|{file}>.",
    "<Running|Let me run> the <tests|suite|type checker> <again|now|to confirm>.",
    "<I need|Let me get> <more context|the rest of {file}|the definition of `{sym}`>.",
    "<Still failing|Not yet|One failure left>: `{test}`. <Let me see why.|Looking at the {field}.|The {noun} is stale.>",
    "<Let me|I'll> <fix|adjust|simplify> <that|`{sym}`|the {noun} handling>.",
)
TASKS = (
    "<Users report|We noticed|Support says> that <a|the> {noun} <loses its|shows a wrong|keeps an old> {field} <after|when> <a|the> {noun} <is reloaded|expires|is merged>. <Please find|Find|Track down> the cause and fix it<, with a test.|. Keep the public functions as they are.|. Do not change the stored format.>",
    "`{sym}` in {file} <is too slow|does too much|is hard to test>. <Split it|Refactor it|Clean it up> <so that|without changing what> the {noun} <can be tested alone|is returned>. <Update|Keep> the tests.",
    "<Add|Implement|We need> a <limit|retry|timeout|default> for {noun}s: <at most|after> {n} <per {noun}|seconds|attempts> the {noun} <is refused|is dropped|must report its {field}>. <It should be configurable.|Follow how `{sym}` does it.|Document it in the README.>",
    "The test `{test}` <fails|is flaky|hangs> since <yesterday|the last merge|we upgraded {lib}>. <Find out why and repair it.|Make it reliable; do not just raise the timeout.|Fix the code, not the test.>",
    "<Migrate|Move> the {noun} code <from|out of> {file} <to|into> its own module, <update all callers|keep a thin wrapper>, and <make sure|check> that the <build|suite> stays green.",
)
FOLLOW_UPS = (
    "<Thanks|Good|Looks right>. <Now|Next|One more thing>: <do the same for|also handle|what about> {noun}s <with|without> {field}<?|. See `{sym}`.|, please.>",
    "<Hm|Sorry>, `{test}` <still fails|fails here> <on my machine|in CI>. <Can you check?|Please have another look.>",
    "<Please|Could you> <also |>add <a test|documentation|a changelog entry> for <that|the {noun} case>.",
    "<Why|How> <is|does> `{sym}` <needed|work> now? <If it is dead, remove it.|Explain briefly, then simplify it.>",
)
ANSWERS = (
    "The <cause|bug|problem> was `{sym}` in {file}:{line}: it <compared|used|kept> the {field} <of the wrong {noun}|before it was updated|twice>.",
    "I <changed|rewrote|fixed> it so that the {noun} <keeps|checks|resets> its {field}, and <added|extended> `{test}`.",
    "<All|The> tests <pass|are green>. <Nothing else was touched.|I left `{sym}` as it is.|The public functions are unchanged.>",
    "<Note|One remark>: {file} <has|still has> <a similar|the same> <pattern|check> at line {line}; I <did not change it|left it alone>.",
)
ERRORS = (
    "error: <cannot find|no such> <value|name|member> `{sym}` in <this scope|`{noun}`>",
    "<expected|incompatible> type <of|for> `{field}` <does not match|in call of> `{sym}`",
    "<unused|unreachable> <variable|import|code> `{noun}`",
    "missing <return|argument> <in|for> `{sym}`",
    "`{noun}` is possibly <undefined|used before assignment|null>",
)
README = (
    "The {noun} <service|library|module> <keeps|manages|serves> {noun}s <for|on behalf of> <other|many> {noun}s.",
    "<Set|Configure> `{field}` to <limit|change|tune> how <many|long|often> a {noun} <is kept|may wait|is retried>; the default is {n}.",
    "<Run|Use|Call> `{sym}` <before|after|instead of> `{sym}` <when|if> the {noun} <has no|needs another> {field}.",
    "<Since|As of> version {n}.{n}, {noun}s <are|must be> <sorted|stored|sent> <by|with> their {field}.",
    "<Do not|Never|Avoid to> <edit|import|call> {file} <directly|from tests|by hand>: <it is generated|use `{sym}`|it owns the {noun}>.",
    "<Known issue|Limitation>: a {noun} <with|of> more than {n} {noun}s <takes long|is split|is refused>.",
)
