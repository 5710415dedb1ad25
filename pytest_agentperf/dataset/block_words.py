"""The words of synthesised text: each is one token, alone and after a space, in every common BPE vocabulary.

Checked with those of DeepSeek V4, GPT-4, gpt-oss, Qwen, Llama 3 and 4, Mistral and Claude. A change here changes
every text that was ever synthesised.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words("""
Server Client Cache Queue Buffer Module Function Method Class Object Field Value String Number Table
Column Index Query Request Response Session Token Scanner Reader Writer Stream Channel Socket Packet
Header Body Message Event Handler Timer Clock Process Thread Task Worker Manager Service Driver
Device Memory Page Block Segment Node Edge Graph Tree Leaf Root Branch Commit Patch Version Release
Build Test Suite Case Report Record Entry Item List Array Map Set Key Hash Lock Signal Error
Exception Warning Log Trace Monitor Counter Rule Filter Policy Config Option Setting Flag Argument
Parameter Result Output Input File Folder Path Link Image Script Shell Command Plugin Package
Library Framework Engine Model View Controller Template Form Button Window Panel Menu Editor Layout
Style Theme Color Font Text Label Title User Account Role Group Owner Admin Customer Order Product
Invoice Payment Price Stock Shop Store Address Country Region Zone Date Calendar Schedule Job Plan
Project Team Network Router Gateway Proxy Domain Host Port Cluster Database Archive Storage Disk
Volume Container System Platform Interface Protocol Format Runtime Profile Sample Batch Pool Stack
Frame Scope Context State Status Action Component Property Attribute Element Document Source Target
Consumer Producer Publisher Topic Cell Row Matrix Vector Point Shape Line Circle Rectangle Pixel
Texture Camera Scene Sound Video Audio Player Game Level Score Sensor Motor Power Energy Location
Route Station Ticket Book Author Article Comment Post Category Tag Search Rank Language Word Chapter
Section Note Review Feedback Survey Question Answer Contact Email Phone Notification Alert Password
Login Security Permission Certificate Signature License Contract Agent Generator Builder
""")

NOUNS = _words("""
server client cache queue buffer module function method class object field value string number table
column index query request response session token parser reader writer stream channel socket header
body message event handler callback timer clock process thread task worker manager service driver
device memory page block segment node edge graph tree leaf root branch commit patch version release
build test suite case report record entry item list array map set key hash lock signal error
exception warning log trace metric counter rule filter policy config option setting flag argument
parameter result output input file folder path link image script shell command plugin package
library framework engine model view controller template form button window panel menu editor cursor
layout style theme color font text label title user account role group owner order product payment
price stock store address region zone date calendar job plan project team network router proxy
domain host port cluster database archive storage disk volume container kernel system platform
interface protocol format runtime profile sample batch pool stack frame scope context state status
action component property attribute element document source target topic cell row matrix vector
point shape line scene route word section note review question answer contact email alert password
login security license agent builder factory iterator observer bridge wrapper registry provider
prefix pattern symbol variable constant pointer reference offset length size limit range bound step
loop condition expression statement comment position location distance weight score rate ratio count
total sum average maximum minimum interval delay default copy clone merge change update
""")

VERBS = _words("""
check read write send load store create update remove add call open close start stop run build test
parse handle process use need keep hold take find set get pass move copy save sort filter map join
split count mark track show hide print log report raise catch block release share change replace
match follow include define require support allow accept return convert generate select expect
represent describe control manage reduce compare connect apply ignore exit drop pick resolve
validate register render trigger execute initialize configure import export delete insert fetch push
pull clear reset lock sync refresh search query scan group limit skip repeat review verify record
trace watch request ask answer reply post draw fill link bind attach wrap merge clone encode decode
format transform rename
""")

PARTICIPLES = _words("""
created updated added called closed loaded used given found set failed sorted split marked shown
hidden printed logged shared changed matched defined required supported allowed selected provided
expected controlled managed registered locked
""")

ADJECTIVES = _words("""
new old first last next previous current empty full large small long short open local remote global
public private static dynamic internal external active ready valid invalid missing common single
double multiple simple complex fast slow strong weak early late final initial default custom native
virtual real raw clean shared unique random stable hidden visible partial complete correct wrong
safe free broken fixed main primary secondary optional parallel relative absolute standard general
specific normal original additional available related similar different expected known unknown extra
direct red green blue black white dark light high low deep left right center outer inner upper
future modern major minor quick sharp flat round square soft hard hot wide big little tiny equal
actual likely possible good better best bad important strict closed
""")

MODALS = _words("can must should will would may could")
