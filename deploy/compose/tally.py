"""Counts what became of the crops of run-local.sh: exit status 0 where each has one ending and nobody was taken for another.

    tally.py EXPECTED RESULTS DEAD      # results as `facewire watch --json`, dead letters as `facewire dead list --json`
"""

import collections
import json
import pathlib
import sys


def objects(path):
    text, decoder, at = pathlib.Path(path).read_text(), json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        value, at = decoder.raw_decode(text, at)
        yield value


def main():
    expected, results, dead = int(sys.argv[1]), list(objects(sys.argv[2])), list(objects(sys.argv[3]))
    endings = collections.Counter(result["status"] for result in results)
    crops = {(result["crop_id"], result.get("face_index", 0)) for result in results}
    wrong = 0
    for result in results:
        if result["status"] == "matched" and result["decision"]["person"]["external_id"] != result["camera"]:
            wrong += 1
    for status, count in sorted(endings.items()):
        print(f"{status}: {count}")
    print(f"{expected} crops published, {len(crops)} with an ending, {wrong} taken for somebody else, {len(dead)} dead letters")
    sound = len(crops) == len(results) == expected and wrong == 0 and not dead and endings["matched"] > 0
    sys.exit(0 if sound else 1)


main()
