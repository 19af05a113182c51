"""Made-up events in the shape of Wikimedia's `mediawiki.recentchange` 1.0.0.

https://schema.wikimedia.org/repositories/primary/jsonschema/mediawiki/recentchange/1.0.0.yaml, and recorded events for
what the schema leaves open: which fields a log event lacks, ids past 2^31, a `type` that is a number in a string. All
words, pages and people are ours.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from html import escape
from typing import Any
from urllib.parse import quote

from millrace_pipeline.jsontext import encode_json

FIRST_OFFSET = 5_600_000_000
"""The offset of event number 0: recorded ones were about here, and Kafka's start at no round number either."""

TOPIC = "eqiad.mediawiki.recentchange"

_WIKIS = (
    ("commonswiki", "commons.practice.example", "https://commons.practice.example"),
    ("wikidatawiki", "data.practice.example", "https://data.practice.example"),
    ("enwiki", "en.practice.example", "https://en.practice.example"),
    ("frwiki", "fr.practice.example", "https://fr.practice.example"),
    ("jawiki", "ja.practice.example", "https://ja.practice.example"),
    ("ruwiki", "ru.practice.example", "https://ru.practice.example"),
    ("arwiki", "ar.practice.example", "https://ar.practice.example"),
)
_PLACES = (
    "Old mill", "Weir of Arden", "Mühlenbach", "Rivière aux Saules", "水車小屋", "Водяная мельница", "طاحونة الماء",
    "Ponte dos Moleiros", "Sluice no. 4", "Mlýnský náhon", "Νερόμυλος", "물레방아", "Tide mill “Grey Heron”", "🦆 Pond",
    "Race & tail water", "O'Hara's lock", "Kvarnfallet", "जलचक्की",
)  # fmt: skip
_USERS = ("Practice miller", "Räuber der Mühle", "水車番", "Weir watcher", "Joueur d'eau", "Мельник", "Heron", "طحان")
_BOTS = ("MillBot", "WeirWatchBot", "TidyTailraceBot")
_COMMENTS = (
    "/* History */ who dug the race", "typo", "", "une source de plus", "水路の説明を追加",
    "/* wbsetclaim-create:2||1 */", "Исправлено название", "rv: the wheel turns the other way\u2028(see talk)",
    "<ref> & quotes \"as they are\" \\ here",
    "🦆 counted again", "ضبط الصياغة", "merged two paragraphs that said the same thing about the sluice gates",
)  # fmt: skip
_LOGS: tuple[tuple[str, str, Any], ...] = (
    ("upload", "upload", {"img_sha1": "k3v1r2m4", "img_timestamp": "20261121T000000Z"}),
    ("move", "move", {"target": "Weir of Arden (upper)", "noredir": "1"}),
    ("review", "approve", [74_590_875, 70_504_980, "20261120032547"]),
    ("delete", "delete", []),
    ("newusers", "create", {"userid": 3_221_225_472}),
)


class _Dice:
    """Throws that depend on nothing but the seed and the number: the same on every machine and Python."""

    def __init__(self, seed: int, number: int) -> None:
        digest = hashlib.blake2b(f"{seed}/{number}".encode()).digest()
        self.id = _uuid(digest[:16])
        self.other_id = _uuid(digest[16:32])
        self._left = int.from_bytes(digest[32:], "big")

    def roll(self, sides: int) -> int:
        self._left, rolled = divmod(self._left, sides)
        return rolled

    def pick(self, choices: Any) -> Any:
        return choices[self.roll(len(choices))]


def event(seed: int, number: int, moment_ms: int) -> bytes:
    """The data of event `number` of the stream `seed`, as it happened at a time (milliseconds since 1970).

    Everything but the time is the same whenever it is asked for. `meta.id` is of no other event.
    """
    dice = _Dice(seed, number)
    when = datetime.fromtimestamp(moment_ms / 1000, UTC)
    if dice.roll(200) == 0:
        return _canary(dice, number, when)
    kind = _kind(dice.roll(1000))
    wiki, domain, server = dice.pick(_WIKIS)
    title = f"{dice.pick(_PLACES)} {dice.roll(400)}"
    namespace = 14 if kind == "categorize" else dice.pick((0, 0, 0, 1, 2, 6))
    if kind == "categorize":
        title = f"Category:{title}"
    comment = f"[[:{dice.pick(_PLACES)}]] added to category" if kind == "categorize" else dice.pick(_COMMENTS)
    path = _quoted(title)
    uri = f"{server}/wiki/{path}"
    revision = 1_300_000_000 + number * 3
    change = 2_147_483_000 + number * 2
    bot = dice.roll(10) < 4
    by = dice.pick(_BOTS) if bot else f"{dice.pick(_USERS)} {dice.roll(60)}"
    made: dict[str, Any] = {
        "$schema": "/mediawiki/recentchange/1.0.0",
        "meta": _meta(dice, number, when, uri, domain),
        "id": change,
        "type": kind,
        "namespace": namespace,
        "title": title,
        "title_url": uri,
        "comment": comment,
        "timestamp": moment_ms // 1000,
        "user": by,
        "bot": bot,
    }
    if kind == "log":
        log_type, action, params = dice.pick(_LOGS)
        made |= {
            "log_id": 50_000_000 + number,
            "log_type": log_type,
            "log_action": action,
            "log_params": params,
            "log_action_comment": f"{by} did {action} on [[{title}]]",
        }
        if dice.roll(5) < 3:
            del made["id"]
    else:
        made["notify_url"] = f"{server}/w/index.php?diff={revision}&oldid={revision - 2}&rcid={change}"
    if kind in ("edit", "new"):
        made["minor"] = dice.roll(4) == 0
        if dice.roll(7):
            made["patrolled"] = bool(dice.roll(2))
        size = 200 + dice.roll(60_000)
        made["length"] = {"new": size} if kind == "new" else {"old": size, "new": size + dice.roll(400) - 120}
        made["revision"] = {"new": revision} if kind == "new" else {"old": revision - 2, "new": revision}
    link = f'<a href="/wiki/{path}" title="{escape(title)}">{escape(comment)}</a>'
    made |= {
        "server_url": server,
        "server_name": domain,
        "server_script_path": "/w",
        "wiki": wiki,
        "parsedcomment": f'<span dir="auto">{link}</span>',
    }
    return encode_json(made)


def _kind(rolled: int) -> str:
    """In the shares of 2,934 recorded events: 52 % edits, 42 % categorize, 4 % new, 2 % log, and one "142"."""
    for kind, below in (("edit", 517), ("categorize", 934), ("new", 976), ("log", 999)):
        if rolled < below:
            return kind
    return "142"


def _canary(dice: _Dice, number: int, when: datetime) -> bytes:
    """The artificial event that Wikimedia sends through every stream to see that it flows; readers drop it."""
    return encode_json(
        {
            "$schema": "/mediawiki/recentchange/1.0.0",
            "meta": _meta(dice, number, when, "https://canary.practice.example/", "canary"),
            "type": "edit",
            "title": "canary",
            "comment": "an event to see that events arrive",
            "timestamp": int(when.timestamp()),
            "user": "canary",
            "bot": True,
            "wiki": "canary",
        }
    )


def _meta(dice: _Dice, number: int, when: datetime, uri: str, domain: str) -> dict[str, Any]:
    return {
        "uri": uri,
        "request_id": dice.other_id,
        "id": dice.id,
        "dt": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "domain": domain,
        "stream": "mediawiki.recentchange",
        "topic": TOPIC,
        "partition": 0,
        "offset": FIRST_OFFSET + number,
    }


def _uuid(random: bytes) -> str:
    digits = random.hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


@lru_cache(maxsize=16_384)
def _quoted(title: str) -> str:
    return quote(title.replace(" ", "_"), safe=":")
