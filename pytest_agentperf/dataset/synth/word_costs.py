"""How many tokens the words of the vocabulary have for the DeepSeek V4 tokenizer.

Each word is followed by five digits: its tokens alone, after `_`, after `/`, after `.`, and capitalised.
"""

_COSTS = """
account11211 active11211 adapter22221 add11111 admin11111 age11211 alder22222 alert12221 amount11221
annotation12211 api11111 app11111 apply12211 archive12211 argset22332 assign12211 at11211 attach12222
attachment12221 attempts23332 audit23332 auth12111 axis12221 backlog22322 balance12221 basalt23332 baseline23332
batch12221 beacon22322 binding12221 block11211 bounds12221 bramble22222 broker23332 brush12221 bucket12221
budget22221 buffer11221 bufferpool22332 build12111 builder12221 cache11221 cached22222 calendar13231 cancel12221
canvas13321 capacity12221 carrier23332 certificate23331 challenge22221 channel12221 charge12221 check11211
checkpoint22322 checksum23333 cinder22222 claim12221 clear12211 cli12221 client11111 clockwise12222 close11211
cobalt22222 collect12221 collision23332 comment12221 commit12211 compact12221 compaction23322 compare12211
completed12221 compute12221 config11111 consent23332 container11211 content11111 context11211 contour23332
convert12221 cookie12221 copy11211 core12111 corpus23332 count11211 counter11221 crates22222 crawler33333
create11111 created12211 credential23332 credit12221 currency12221 current11211 cursor12221 curve12222
customs23322 dashboard12221 datagram22322 datetools33433 deadline23332 decode11212 decoder22321 default11111
delete11211 delivery23331 depth11221 description11211 detect22222 device11221 diagnostic23332 digest23332
dirty22222 discount22221 dispatch12221 dispatcher22221 dock12222 document12121 draft22222 drain22222
driftwood33333 drop12211 edge11221 embedding23332 ember12222 emit12222 empty11211 enabled22221 encode11212
encoder12221 encoding12221 endpoint22321 enqueue22222 ensure12221 entry11221 envelope22222 epoch12222
errors12211 estimate12222 event11211 eventloopx33433 events12221 evict23322 example12211 expand12221 expire22322
expired22322 expires22322 export12221 exporter22222 exposure22222 expression12221 extent22222 extract22222
facet22222 factory12211 failed12221 falcon23333 fastroute23332 fetch12211 field11211 file11111 filter11211
final12221 find12211 finish23331 flags12221 fleet22222 flush12222 format11211 foundry23332 fragment22221
frame11211 freeze22222 gantry22222 gauge22222 generation22221 gradient22222 grammar23331 granite23332 grant12221
group11211 handle12211 handles23332 handshake23332 harbor33333 hashring22322 header11211 height11211 heron23232
hidden12221 histogram23332 hits22222 host11221 hydrate23332 import12221 index11111 initial12221 inner12211
insert11211 inspect22222 internal12111 interval12221 invalid12221 inventory22221 invoice12221 ironlog23332
isthmus34443 item11111 java12111 jetty23332 job12221 jobs12221 join12211 journal12121 jsonwell22222 juniper33333
keeps23332 kestrel33333 key11111 kiln23332 kind12221 kotlin23333 label11211 lantern23332 larch22222 largest22222
latency23332 layer11211 lease12222 ledger23332 length11211 level11211 lexer23332 lib12111 limit11221 line11211
list11111 listener22221 literal12221 load11211 loader12221 local11111 locale12321 lock11221 lockbox22332
locked12222 log11111 lookup22222 macro12222 mailbox23332 main11111 manager11221 manifest12222 map11211
mapper12221 mark12211 marlin33333 mask11221 match11111 matrix11221 max11211 meadow23323 measure12221 merge12221
mesh12221 message11211 metrics12221 migrate33332 mimer22222 misses22222 missing12221 mode11221 model11111
modules11221 monitor22331 move11211 name11211 nested22222 netquery23222 newest22222 next11211 nimbus33333
node11111 normal11221 normalize22332 notify22321 offset11221 oldest23332 open11111 operator12221 option11221
orchard22222 order11211 org12211 osprey23333 outer12222 owner12221 packages22222 packet22221 page11111
palette23332 palettekit34443 pallet22222 parcel23332 parent11211 parse12211 partial12231 partition12232
passkey22332 patch12221 path11211 pattern11221 pause12222 payload12211 payment12221 peer12221 pending12221
percentile23332 pipeline22221 pixel22221 plane12222 plover23322 plugins12232 policy12221 poll12211 polygon23332
port11221 position11211 posting22222 precision12222 prefix11231 prepare12231 presence23332 previous12221
primary12221 principal12221 priority12221 private12221 probe22222 process11211 projection22222 provider12121
proxy12221 prune22222 publish22222 purge23332 push11211 pylon22222 quarry23232 quaternion23232 query11211
queue11211 quill23232 quota23232 range11221 rank12221 ranking12222 rate11221 ratio12221 raw11221 ray12221
reaction22222 read11211 reader12221 rebuild22322 receipt23332 receive22221 reconcile33333 record11221
redact23322 refresh12221 refund22322 region12221 register12211 registry12221 rejects22222 release12221
relevance22222 reload22222 remote12221 remove12211 rename12222 render12211 replace11211 replica22222 report11221
request11211 reserve22222 reset12211 resize22212 resolve12212 response11211 restore23322 result11211 resume22222
retries23332 retry23332 retryable34443 returns12221 revision22221 rivet22222 role11221 rollback23332 rollup23332
rotate12222 route12211 rowmapper22322 run11211 runner12221 runtime12221 safepath44444 saffron33333 sample11221
save12211 scala22222 scan12221 schedule22221 schema12221 scope12221 score11211 seal22222 secondary12221
secret12221 segment12221 select11211 self12221 send12211 sequence12221 serialize23221 series12221 server11111
service11111 session11211 set11211 settle23222 sextant33333 shard22222 shared12211 shift12221 shipment23332
size11211 skips23332 slot12221 smallest23331 snapshot23331 snippet22222 socket12221 sort11211 sorted12221
source11211 sources22221 span12221 spec12221 split11211 sprite22221 src12111 stale22222 start11211 started22321
state11211 statement12221 status11211 stop12211 stopword23322 storage12221 store11111 stream11211
streamline22322 submit12221 subscriber22222 subscription22221 suffix22222 suggestion22222 summary12321
supplier23331 surface12221 swap12221 symbol11221 sync12221 synonym23332 table11211 tablefmt22322 tag11211
take12221 target11211 tariff23322 tax12221 tenant12222 term11221 test11111 tests12221 texture22221 this12221
thistle22222 thread11221 threshold12221 thumbnail12223 tidepool33333 tile22221 timeout22221 tinyhttp23333
title11211 token11211 tolerance22222 tombstone33333 topic12221 total11211 touch12221 track12221 tracking22221
transform11211 translate12221 transport12221 trigger12221 trim12211 type11211 typeforge22322 umber12222
unique11221 unpack22222 update11211 updated12221 updates22321 upload12221 url11211 urlkit22322 user11111
util12111 validate12211 value11111 verify12221 version11211 vertex12221 vesper23332 view11111 visible12221
visitor23331 volume12221 voucher22222 wait12211 walk12221 warehouse23332 warnings22222 web12111 weight11211
width11211 willow23332 window11221 worker12221 workspace23332 wrap12221 writer12221 yamlite33323 yarrow22222
zephyr33333
"""

_BEFORE = {"": 0, "_": 1, "/": 2, ".": 3}


def _parse() -> dict[str, int]:
    costs: dict[str, int] = {}
    for item in _COSTS.split():
        word, digits = item[:-5], item[-5:]
        for before, place in _BEFORE.items():
            costs[before + word] = int(digits[place]) * 1000
        costs[word.capitalize()] = int(digits[4]) * 1000
    return costs


WORD_COSTS = _parse()
"""Thousandths of a token, by word with the sign before it."""
