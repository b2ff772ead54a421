#!/usr/bin/env python3
"""fewer_samples.py IN.npz OUT.npz COUNT SEED: keeps COUNT of the samples, the same number of each class as far as it goes.

Arrays as long as y lose the other rows; all others (mean, std) stay. Standard library only.
"""
import ast
import io
import random
import struct
import sys
import zipfile


def read_npy(data):
    """The header's dictionary, and the bytes of the array."""
    if data[:6] != b"\x93NUMPY":
        raise ValueError("no .npy: got %r at byte 0" % data[:6])
    wide = data[6] > 1
    length = struct.unpack("<I" if wide else "<H", data[8:12 if wide else 10])[0]
    start = (12 if wide else 10) + length
    return ast.literal_eval(data[start - length:start].decode("latin1")), data[start:]


def write_npy(header, body):
    text = repr(header).encode("latin1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def item_size(header):
    return int(header["descr"][2:])


def choose(labels, count, seed):
    """Rows, one of each class in turn, so that the classes stay even."""
    by_class = {}
    for row, label in enumerate(labels):
        by_class.setdefault(label, []).append(row)
    rng = random.Random(seed)
    for label in sorted(by_class):
        rng.shuffle(by_class[label])
    rows = []
    while len(rows) < count and any(by_class.values()):
        for label in sorted(by_class):
            if by_class[label] and len(rows) < count:
                rows.append(by_class[label].pop())
    return sorted(rows)


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    source, target, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    with zipfile.ZipFile(source) as archive:
        arrays = {name: read_npy(archive.read(name)) for name in archive.namelist()}
    header, body = arrays["y.npy"]
    size = item_size(header)
    labels = [int.from_bytes(body[i:i + size], "little", signed=True) for i in range(0, len(body), size)]
    rows = choose(labels, count, seed)
    with zipfile.ZipFile(target, "w") as archive:
        for name, (header, body) in arrays.items():
            if header["shape"][:1] == (len(labels),):
                row = len(body) // len(labels)
                out = io.BytesIO()
                for i in rows:
                    out.write(body[i * row:(i + 1) * row])
                header["shape"], body = (len(rows),) + tuple(header["shape"][1:]), out.getvalue()
            archive.writestr(name, write_npy(header, body))


main()
