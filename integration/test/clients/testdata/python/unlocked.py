"""Reads a cache with MSAL's own code, which takes no lock for it, while another process rewrites it.

Usage: unlocked.py DIRECTORY SECONDS. It prints how many reads there were, how many found the cache
empty, as it is between its truncation and its write, and how many a part of it.
"""
import multiprocessing
import sys
import time

import msal_extensions

cache = msal_extensions.FilePersistence(sys.argv[1] + "/cache.json")
content = "x" * 12000
end = time.time() + float(sys.argv[2])


def rewrite():
    while time.time() < end:
        cache.save(content)
        time.sleep(0.002)


cache.save(content)
writer = multiprocessing.Process(target=rewrite)
writer.start()
reads = empty = parts = 0
while time.time() < end:
    got = cache.load()
    reads += 1
    empty += got == ""
    parts += 0 < len(got) < len(content)
writer.join()
print(reads, empty, parts)
