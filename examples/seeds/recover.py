"""Protection violations caught, counted and survived, and in the end allowed.

A cache keeps two pages: the first may be changed, the second is read-only. Four jobs hand their bytes to C
code that knows nothing of this. A job that breaks the rule gets an exception and the rest goes on; then the
page is opened and the job that failed is done again, as a garbage collector does it with a write barrier.
"""

import ctypes

from memprot import PAGE_SIZE, FaultError, Region, catch_faults

JOBS = {"apple": 0, "banana": PAGE_SIZE, "cherry": 64, "date": PAGE_SIZE + 64}


def store(cache: Region, word: str, offset: int) -> None:
    """Let C code copy a word into the cache."""
    ctypes.memmove(cache.address + offset, word.encode(), len(word))


def main() -> None:
    with Region(2 * PAGE_SIZE) as cache:
        cache.protect("r--", PAGE_SIZE)
        refused = []
        for word, offset in JOBS.items():
            try:
                with catch_faults():
                    store(cache, word, offset)
                print(f"{word}: stored")
            except FaultError as fault:
                print(f"{word}: {fault.access} refused, cause: {fault.cause}")
                refused.append(word)
        cache.protect("rw-", PAGE_SIZE)
        for word in refused:
            store(cache, word, JOBS[word])
            print(f"{word}: stored, now that the page is open")
        print(*(cache.read(offset, len(word)).decode() for word, offset in JOBS.items()))


if __name__ == "__main__":
    main()
