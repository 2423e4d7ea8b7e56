"""Prints the rows and the digest of each table of a Flujo 0.6 state file, as flujo-port's receipt has them.

Usage: python3 digests.py STATE_FILE [--exact-floats] [--naive-timezone ZONE]

The options are those of the migration. Tables without rows are not printed. If the file holds something that this
program does not convert, it prints what, and exits with 1. docs/audit.md describes the digests, docs/values.md the
conversion. The program needs Python 3.9 or later, and nothing else.
"""
import argparse
import codecs
import datetime
import decimal
import hashlib
import json
import math
import os
import re
import shutil
import sqlite3
import struct
import sys
import tempfile
import zoneinfo

# The columns in PostgreSQL's order, with their types: T text, I integer, R real, D double precision, J jsonb,
# Z timestamptz, B boolean, V vector. "!" is NOT NULL, "#" the primary key, "*" has an index.
TABLES = {
    "runs": "run_id T# pipeline_id T!* pipeline_name T!* pipeline_version T! status T!* created_at Z! updated_at Z! "
            "execution_time_ms I memory_usage_mb R total_steps I error_message T",
    "workflow_state": "run_id T# pipeline_id T!* pipeline_name T! pipeline_version T! current_step_index I! "
                      "pipeline_context J last_step_output J step_history J status T!* created_at Z! updated_at Z! "
                      "total_steps I error_message T execution_time_ms I memory_usage_mb R metadata J "
                      "is_background_task B parent_run_id T* task_id T background_error T",
    "steps": "id I# run_id T!* step_name T! step_index I! status T! output J raw_response J cost_usd R token_counts I "
             "execution_time_ms I created_at Z!",
    "spans": "id I# run_id T!* span_id T! parent_span_id T* name T! start_time D! end_time D status T! attributes J "
             "created_at Z!",
    "traces": "run_id T# trace_data J! created_at Z!",
    "evaluations": "id I# run_id T!* step_name T score D! feedback T metadata J created_at Z!",
    "system_state": "key T# value J! updated_at Z!",
    "memories": "id T# vector V payload J metadata J created_at Z",
}
OIDS = {"T": 25, "I": 20, "R": 701, "D": 701, "J": 3802, "Z": 1184, "B": 16, "V": 17}
CHILDREN = ("steps", "spans", "traces", "evaluations")  # their run_id refers to runs
EPOCH = datetime.datetime(2000, 1, 1)
TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:([ T])(\d\d):(\d\d)(?::(\d\d)(?:\.(\d+))?)?"
                  r"(?:(Z)|([+-])(\d\d)(?:([0-5]\d)|:([0-5]\d)(?::([0-5]\d))?)?)?)?", re.ASCII)
SURROGATES = re.compile("[\ud800-\udfff]")


def stop(why):
    sys.exit(f"digests.py: {why}. This program does not define the result; run flujo-port verify.")


# Text: NULs are removed, and each byte that is not UTF-8 becomes U+FFFD.

codecs.register_error("each", lambda e: ("\ufffd" * (e.end - e.start), e.end))


def decode(data):
    return data.decode("utf-8", "each")


def text(value):
    if isinstance(value, float):
        stop(f"a text column has the number {value!r}")
    return (decode(value) if isinstance(value, bytes) else str(value)).replace("\0", "")


# JSON: as jsonb prints it. A text that is not JSON becomes a JSON string.

class Number(str):
    pass


def number(digits):
    try:
        d = decimal.Decimal(digits)
        if max(abs(d.as_tuple().exponent), abs(d.adjusted())) > 16000:
            raise decimal.InvalidOperation
    except decimal.InvalidOperation:
        stop("JSON has a number that numeric may not be able to store")
    return Number(format(d if d else abs(d), "f"))


def clean(string):
    return SURROGATES.sub("\ufffd", string.replace("\0", ""))


def parse(source):
    if len(source) > 32 << 20 or "\\\0" in source:
        stop("JSON is longer than 32 MB, or has a NUL after a backslash")
    try:
        return json.loads(source.replace("\0", "\\u0000"), parse_int=number, parse_float=number, parse_constant=str,
                          object_pairs_hook=lambda pairs: {clean(k): v for k, v in pairs})
    except ValueError:
        return source
    except RecursionError:
        stop("JSON is nested more than 300 levels deep")


def printed(tree, level=0):
    if level > 300:
        stop("JSON is nested more than 300 levels deep")
    if isinstance(tree, dict):
        keys = sorted(tree, key=lambda k: (len(k.encode()), k.encode()))
        return "{" + ", ".join([printed(k) + ": " + printed(tree[k], level + 1) for k in keys]) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join([printed(v, level + 1) for v in tree]) + "]"
    if isinstance(tree, Number):
        return str(tree)
    return json.dumps(clean(tree) if isinstance(tree, str) else tree, ensure_ascii=False)


def infinity(value):
    return "Infinity" if value > 0 else "-Infinity"


def jsonb(value, nullable):
    if isinstance(value, float):
        value = infinity(value) if math.isinf(value) else re.sub(r"\.0$", "", repr(value))
    source = decode(value) if isinstance(value, bytes) else str(value)
    if nullable and source.strip(" \t\r\n") == "null":
        return None
    return b"\1" + printed(parse(source)).encode()


# Timestamps: microseconds since 2000-01-01 00:00:00 UTC.

def micros(value):
    try:
        if isinstance(value, (int, float)):  # seconds since 1970
            whole = math.floor(value)
            at = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=whole)
            return (at - EPOCH) // datetime.timedelta(microseconds=1) + round((float(value) - whole) * 1e6)
        m = TIME.fullmatch(decode(value) if isinstance(value, bytes) else value)
        at = datetime.datetime(*(int(m[i] or 0) for i in (1, 2, 3, 5, 6, 7)), int((m[8] or "")[:6].ljust(6, "0")))
        if m[10]:
            east = datetime.timedelta(hours=int(m[11]), minutes=int(m[12] or m[13] or 0), seconds=int(m[14] or 0))
            if east >= datetime.timedelta(days=1):
                raise ValueError
            at += east if m[10] == "-" else -east
        elif not m[9] and not (m[4] == " " and m[7] and not m[8]):  # neither Z nor what SQLite's datetime() prints
            at -= at.replace(tzinfo=options.naive_timezone).utcoffset()
        return (at - EPOCH) // datetime.timedelta(microseconds=1)
    except (TypeError, ValueError, OverflowError):
        stop(f"the timestamp {value!r} is not readable, and is inferred from other rows")


# Rows.

def vector(value):
    if not isinstance(value, bytes) or not value or len(value) % 4:
        stop("a vector is invalid")
    floats = struct.unpack(f"<{len(value) // 4}f", value)
    if not all(map(math.isfinite, floats)) or dimensions.setdefault("vector", len(floats)) != len(floats):
        stop("a vector is invalid, or has another dimension than others")
    return struct.pack(f">HH{len(floats)}f", len(floats), 0, *floats)


def numeric(kind, value):
    try:
        if kind == "I":
            return struct.pack(">q", round(value))
        if kind == "R" and not options.exact_floats:
            value = struct.unpack(">f", struct.pack(">f", float(value)))[0]
        return struct.pack(">d", float(value))
    except (TypeError, OverflowError, struct.error):
        stop(f"a numeric column has {value!r}, which is text or out of range")


def binary(kind, value, nullable):
    """Returns the binary form of a cell in PostgreSQL; None for NULL."""
    if value is None:
        return None
    if kind == "T":
        return text(value).encode()
    if kind == "J":
        return jsonb(value, nullable)
    if kind == "Z":
        return struct.pack(">q", micros(value))
    if kind == "B":
        return bytes([bool(value)])
    if kind == "V":
        return vector(value)
    return numeric(kind, value)


def encoding(table, cells):
    """Returns the row encoding of a row, and its key."""
    result, key = struct.pack(">I", len(cells)), None
    for (name, kind), value in zip(columns(table), cells):
        if "#" in kind or name == "run_id":
            changed = set(value) & set("\0\ufffd") if isinstance(value, str) else False
            if not isinstance(value, int if kind[0] == "I" else str) or changed:
                stop(f"{table}.{name} has {value!r}, which is not a plain key")
            key = value if "#" in kind else key
            if name == "run_id" and table in CHILDREN and value not in found["runs"]:
                stop(f"{table} has the run {value!r}, which needs a stub run")
        required = "!" in kind or "#" in kind
        data = binary(kind[0], value, not required)
        if data is None and required or "T" in kind and set(kind) & set("#*") and data and len(data) > 2690:
            stop(f"{table}.{name} has {value!r:.40}, for which the row is rejected")
        result += struct.pack(">Ii", OIDS[kind[0]], -1 if data is None else len(data)) + (data or b"")
    return result, key


def columns(table):
    words = TABLES[table].split()
    return list(zip(words[::2], words[1::2]))


def rows(db, table):
    there = {r[1].lower() for r in db.execute(f"PRAGMA table_info({table})")}
    names = [name for name, _ in columns(table)]
    if not there:
        return []
    if not there.issuperset(names):
        stop(f"the table {table} is not that of Flujo 0.6")
    return db.execute(f"SELECT [{'], ['.join(names)}] FROM {table} ORDER BY [{names[0]}]")


def trace(spans):
    """Returns the trace that Flujo's SQLite backend builds of the spans of a run; None without a root."""
    def real(value):
        if value is None or math.isinf(value):
            return value and infinity(value)
        digits = number(repr(float(value)))
        return digits if "." in digits else Number(digits + ".0")

    nodes, roots = {}, []
    for _, _, span_id, parent, name, start, end, status, attributes, _ in sorted(spans, key=lambda s: s[5]):
        attributes = attributes if isinstance(attributes, (str, bytes)) else ""
        nodes[text(span_id)] = {
            "span_id": text(span_id), "parent_span_id": None if parent is None else text(parent), "name": text(name),
            "start_time": real(start), "end_time": real(end), "status": text(status), "children": [],
            "attributes": parse(decode(attributes) if isinstance(attributes, bytes) else attributes)
            if attributes else {}}
    for node in nodes.values():
        parent = node["parent_span_id"]
        (nodes[parent]["children"] if parent and parent in nodes else roots).append(node)
    return roots[0] if roots else None


def derived(spans_of):
    for run, spans in spans_of.items():
        tree = trace(spans)
        if run not in found["traces"] and tree:
            created = EPOCH + datetime.timedelta(microseconds=max(micros(s[9]) for s in spans))
            yield run, printed(tree), created.isoformat() + "Z"


def main(path):
    with tempfile.TemporaryDirectory() as folder:  # SQLite would create files next to the state file
        copy = os.path.join(folder, "copy.db")
        shutil.copyfile(path, copy)
        if os.path.exists(path + "-wal"):
            shutil.copyfile(path + "-wal", copy + "-wal")
        db = sqlite3.connect(copy)
        db.text_factory = decode
        spans_of, lines = {}, []
        for table in TABLES:
            found[table], first, second = set(), 0, 0
            for source in (rows(db, table), derived(spans_of) if table == "traces" else []):
                for cells in source:
                    bytes_, key = encoding(table, cells)
                    if key in found[table]:
                        stop(f"{table} has the key {key!r} twice")
                    found[table].add(key)
                    if table == "spans":
                        spans_of.setdefault(cells[1], []).append(cells)
                    halves = struct.unpack(">qq", hashlib.sha256(bytes_).digest()[:16])
                    first, second = first + halves[0], second + halves[1]
            if found[table]:
                lines.append(f"{table} {len(found[table])} {first},{second}")
        db.close()
    print("\n".join(lines))


parser = argparse.ArgumentParser()
parser.add_argument("state_file")
parser.add_argument("--exact-floats", action="store_true")
parser.add_argument("--naive-timezone", type=zoneinfo.ZoneInfo, default=datetime.timezone.utc)
options = parser.parse_args()
found, dimensions = {}, {}  # keys by table; the dimension of vectors
try:
    main(options.state_file)
except (OSError, sqlite3.DatabaseError) as error:
    sys.exit(f"digests.py: {options.state_file}: {error}")
