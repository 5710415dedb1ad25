"""The words that made-up repositories are about."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DOMAINS: dict[str, tuple[str, ...]] = {
    "billing": _words(
        "invoice ledger voucher refund payment account balance receipt tariff discount currency statement "
        "charge subscription credit tax"
    ),
    "scheduling": _words(
        "job queue worker lease slot calendar trigger deadline shift interval batch dispatcher backlog quota "
        "pipeline retry"
    ),
    "parsing": _words(
        "token lexer grammar node scope symbol literal operator expression visitor macro binding comment "
        "pattern fragment diagnostic"
    ),
    "networking": _words(
        "packet socket frame route session peer handshake stream channel header proxy cookie endpoint payload "
        "certificate datagram"
    ),
    "storage": _words(
        "segment bucket page snapshot index cursor replica shard journal block manifest compaction tombstone "
        "checkpoint extent record"
    ),
    "imaging": _words(
        "pixel layer canvas filter histogram palette texture thumbnail gradient mask channel brush contour "
        "exposure sprite tile"
    ),
    "identity": _words(
        "user role grant policy tenant credential secret audit principal group claim scope consent device "
        "challenge passkey"
    ),
    "search": _words(
        "query document term score ranking facet synonym snippet posting crawler corpus embedding suggestion "
        "stopword relevance field"
    ),
    "metrics": _words(
        "sample gauge counter series label window rollup alert threshold probe dashboard annotation baseline "
        "percentile exporter span"
    ),
    "messaging": _words(
        "message topic subscriber envelope broker partition offset mailbox digest attachment thread reaction "
        "presence receipt delivery draft"
    ),
    "logistics": _words(
        "shipment parcel warehouse carrier pallet route stop manifest container dock tracking customs inventory "
        "supplier order fleet"
    ),
    "geometry": _words(
        "polygon vertex edge mesh ray bounds matrix quaternion normal segment curve surface collision axis "
        "projection plane"
    ),
}
GENERIC_NOUNS = _words(
    "entry item value key name config option state result request response context handle source target "
    "range limit count size buffer cache table list group view model event listener filter mapper builder factory "
    "loader writer reader encoder decoder registry manager store provider adapter client server runner monitor"
)
VERBS = _words(
    "add apply archive assign attach build cancel check claim clear close collect commit compact compare compute "
    "convert copy count create decode delete detect dispatch drain drop emit encode enqueue ensure estimate evict "
    "expand expire export extract fetch filter find finish flush format freeze group handle hydrate import index "
    "insert inspect join list load lock log lookup map mark match measure merge migrate move normalize notify open "
    "parse patch pause poll prepare process prune publish purge push read rebuild receive reconcile record redact "
    "refresh register release reload remove rename render replace reserve reset resize resolve restore resume retry "
    "rollback rotate run sample save scan schedule seal select send serialize set settle sort split start stop store "
    "submit swap sync take touch track transform translate trim unpack update upload validate verify wait walk wrap"
)
FIELDS = _words(
    "amount weight quota priority offset score budget depth age volume status kind version owner parent label "
    "created_at updated_at expires_at started_at attempts max_attempts timeout interval capacity length width height "
    "position total pending active enabled visible dirty checksum revision region locale format encoding prefix suffix "
    "path url host port tag title summary description ratio rate latency errors warnings retries batch_size page_size "
    "threshold tolerance precision sequence generation epoch flags mode level rank hits misses"
)
ADJECTIVES = _words(
    "pending active stale expired partial remote local primary secondary cached raw sorted unique invalid missing "
    "empty oldest newest largest smallest next previous current default shared private nested outer inner final initial "
    "failed completed visible hidden locked open"
)
PROJECTS = _words(
    "harbor lantern quarry meadow tidepool foundry orchard beacon juniper granite plover sextant kestrel bramble "
    "cobalt driftwood ember falcon gantry heron isthmus jetty kiln larch marlin nimbus osprey pylon quill rivet "
    "saffron thistle umber vesper willow yarrow zephyr alder basalt cinder"
)
AREAS = _words(
    "core api storage config cli internal service util sync web jobs auth model events transport runtime render "
    "schema migrate report cache plugins metrics admin"
)
PEOPLE = _words("anna bela chen dario elif femi greta hugo ines jonas kofi lena mirko nadia omar petra")
LIBRARIES = _words(
    "clockwise tinyhttp ironlog rowmapper palettekit jsonwell streamline fastroute tablefmt lockbox datetools "
    "netquery bufferpool yamlite argset eventloopx safepath typeforge mimer urlkit hashring retryable"
)
