#include "imports.h"

#include "calls.h"
#include "linkage.h"
#include "own_maps.h"
#include "page.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

struct redirection {
    struct memprot_import *imports;
    size_t count;
    uint64_t loads; // how many objects had been loaded in all
    bool unready;   // one of them was still being loaded, or could not be looked at
};

enum { MOST_LEFT_ALONE = 8 };
static uintptr_t left_alone[MOST_LEFT_ALONE];
static atomic_uint left_alone_count;

static atomic_flag at_work = ATOMIC_FLAG_INIT;

// Looked at in vain, one after the other, for an object whose slots were not filled yet. Whoever is at work counts.
enum { MOST_RETRIES = 16 };
static unsigned unready;

// ---- the originals

// A program that is linked to fixed addresses may offer, as the function, the piece of its own linkage table that
// calls it: that is no original.
static bool is_defined_where_it_lies(uintptr_t function) {
    Dl_info info;
    const ElfW(Sym) *symbol = NULL;
    return dladdr1((void *)function, &info, (void **)&symbol, RTLD_DL_SYMENT) && symbol &&
           (uintptr_t)info.dli_saddr == function && symbol->st_shndx != SHN_UNDEF;
}

static void after_fork_in_child(void) { atomic_flag_clear(&at_work); }

void memprot_imports_leave_alone(uintptr_t code) {
    unsigned at = atomic_load(&left_alone_count);
    if (at < MOST_LEFT_ALONE) {
        left_alone[at] = code;
        atomic_store(&left_alone_count, at + 1);
    }
}

void memprot_imports_prepare(struct memprot_import *imports, size_t count) {
    // Should it not be registered, what is loaded after a fork in the middle of this is not watched in the child.
    (void)pthread_atfork(NULL, NULL, after_fork_in_child);
    for (size_t i = 0; i < count; i++) {
        uintptr_t function = (uintptr_t)dlsym(RTLD_DEFAULT, imports[i].name);
        if (function && !is_defined_where_it_lies(function))
            function = (uintptr_t)dlsym(RTLD_NEXT, imports[i].name);
        if (function && is_defined_where_it_lies(function))
            atomic_store(&imports[i].original, function);
    }
}

// Objects that hold an original (the C library, one that was preloaded) and memprot's own stay as they are.
static bool is_involved(const struct memprot_linkage *object, const struct redirection *redirection) {
    for (size_t i = 0; i < redirection->count; i++) {
        uintptr_t original = atomic_load(&redirection->imports[i].original);
        if ((original && memprot_linkage_segment(object, original, 1, 0)) ||
            memprot_linkage_segment(object, redirection->imports[i].replacement, 1, 0))
            return true;
    }
    for (unsigned i = 0; i < atomic_load(&left_alone_count); i++) {
        if (memprot_linkage_segment(object, left_alone[i], 1, 0))
            return true;
    }
    return false;
}

// Where a slot that nobody has called through yet will lead is decided at the first call, by the objects that offer the
// function then. With only one besides the C library there is nothing to decide.
static int note_contested(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    struct redirection *redirection = data;
    struct memprot_linkage object;
    redirection->loads = info->dlpi_adds;
    if (!memprot_linkage_read(info, &object) || memprot_linkage_segment(&object, (uintptr_t)&__errno_location, 1, 0))
        return 0;
    for (size_t i = 0; i < redirection->count; i++) {
        struct memprot_import *import = &redirection->imports[i];
        if (!memprot_linkage_segment(&object, atomic_load(&import->original), 1, 0) &&
            memprot_linkage_defines(&object, import->name))
            import->contested = true;
    }
    return 0;
}

// ---- the slots

static struct memprot_import *find_import(const struct redirection *redirection, const char *name) {
    for (size_t i = 0; i < redirection->count; i++) {
        struct memprot_import *import = &redirection->imports[i];
        if (import->name[0] == name[0] && strcmp(import->name, name) == 0)
            return atomic_load(&import->original) ? import : NULL;
    }
    return NULL;
}

// A page of slots, made writable where the linker has made it read-only.
struct page {
    uintptr_t start;
    unsigned long prot;
    bool writable, changed;
};

static void close_page(struct page *page) {
    // Should the kernel refuse, the page stays writable; the program does not notice.
    if (page->changed)
        (void)memprot_mprotect(page->start, memprot_page_size(), page->prot);
    *page = (struct page){0};
}

static void open_page(struct page *page, uintptr_t slot, struct redirection *redirection) {
    uintptr_t start = memprot_page_floor(slot);
    if (page->start == start)
        return;
    close_page(page);
    struct memprot_mapping mapping;
    int answer = memprot_own_maps_next(start, &mapping);
    if (answer < 0)
        redirection->unready = true; // no descriptor is left, for one
    if (answer != 1 || mapping.start > start)
        return;
    page->start = start;
    page->prot = mapping.prot;
    page->writable = mapping.prot & PROT_WRITE;
    if (page->writable || !(mapping.prot & PROT_READ) || mapping.shared)
        return;
    page->changed = memprot_mprotect(start, memprot_page_size(), page->prot | PROT_WRITE) == 0;
    page->writable = page->changed;
}

// Whether a call through the slot has the linker look the function up first: it then leads into the object itself.
static bool is_unbound(const struct memprot_linkage *object, const struct memprot_slot *slot, uintptr_t value) {
    return slot->lazy && memprot_linkage_segment(object, value, 1, PF_X);
}

// Another thread is loading the object, and has not come to this slot.
static bool is_as_in_file(const struct memprot_linkage *object, const struct memprot_slot *slot, uintptr_t value) {
    return value == 0 ? !slot->weak
                      : value < object->bias && memprot_linkage_segment(object, object->bias + value, 1, 0);
}

static void redirect_slot(const struct memprot_linkage *object, const struct memprot_slot *slot, struct page *page,
                          struct redirection *redirection) {
    struct memprot_import *import = find_import(redirection, slot->name);
    if (!import || !memprot_linkage_segment(object, (uintptr_t)slot->address, sizeof *slot->address, PF_W))
        return;
    uintptr_t original = atomic_load(&import->original), value = atomic_load(slot->address);
    if (value == import->replacement)
        return;
    if (value != original && !is_unbound(object, slot, value)) {
        redirection->unready |= is_as_in_file(object, slot, value);
        return;
    }
    if (value != original && import->contested)
        return;
    open_page(page, (uintptr_t)slot->address, redirection);
    if (!page->writable)
        return;
    // A first call in another thread may bind the slot meanwhile.
    if (!atomic_compare_exchange_strong(slot->address, &value, import->replacement) && value == original)
        atomic_compare_exchange_strong(slot->address, &value, import->replacement);
}

static int redirect_object(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    struct redirection *redirection = data;
    struct memprot_linkage object;
    if (!memprot_linkage_read(info, &object) || is_involved(&object, redirection))
        return 0;
    struct page page = {0};
    struct memprot_slot slot;
    for (size_t at = 0; memprot_linkage_next(&object, &at, &slot);)
        redirect_slot(&object, &slot, &page, redirection);
    close_page(&page);
    return 0;
}

static int read_loads(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    *(uint64_t *)data = info->dlpi_adds;
    return 1;
}

bool memprot_imports_are_redirected(const _Atomic uint64_t *loads_seen) {
    uint64_t loads = 0;
    dl_iterate_phdr(read_loads, &loads);
    return loads == atomic_load_explicit(loads_seen, memory_order_relaxed);
}

void memprot_imports_redirect(struct memprot_import *imports, size_t count, _Atomic uint64_t *loads_seen) {
    if (atomic_flag_test_and_set(&at_work))
        return;
    int error = errno;
    bool was_open = memprot_own_maps_is_open();
    struct redirection redirection = {.imports = imports, .count = count};
    dl_iterate_phdr(note_contested, &redirection);
    dl_iterate_phdr(redirect_object, &redirection);
    unready = redirection.unready ? unready + 1 : 0;
    if (unready % MOST_RETRIES == 0)
        atomic_store(loads_seen, redirection.loads);
    if (!was_open)
        memprot_own_maps_close(); // the program may want this very descriptor to be free
    atomic_flag_clear(&at_work);
    errno = error;
}
