"""Saves or loads a cache with MSAL's own code, which takes no lock for a load.

Usage: race.py save CACHE          until standard input ends
       race.py load CACHE COUNT    prints how many loads found nothing, how many a half, and
                                   how many versions there were
"""
import select
import sys

import msal_extensions


def version(n):
    return f"{n}:{'x' * (500 + n * 7919 % 60000)}:{n}"


verb, cache = sys.argv[1], msal_extensions.FilePersistence(sys.argv[2])
if verb == "save":
    n = 0
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        n += 1
        cache.save(version(n))
else:
    empty = halves = versions = last = 0
    for _ in range(int(sys.argv[3])):
        got = cache.load()
        if got == "":
            empty += 1
            continue
        number = got.partition(":")[0]
        if not number.isdigit() or got != version(int(number)):
            halves += 1
        elif int(number) != last:
            versions, last = versions + 1, int(number)
    print(empty, halves, versions)
