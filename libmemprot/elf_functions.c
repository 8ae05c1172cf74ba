#include "elf_functions.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// Far more than the symbols of any real library: a bound on what a broken file can make us allocate.
static const uint64_t max_table_size = (uint64_t)1 << 30;

struct elf_entry {
    struct memprot_elf elf;
    struct stat status;
    struct elf_entry *next;
};

// Only ever grows at its head, so that readers need no lock and a fork leaves none behind.
static _Atomic(struct elf_entry *) entries;

struct elf_file {
    int fd;
    uint64_t size;
};

struct function_list {
    struct memprot_elf_function *functions;
    size_t count, capacity;
    // The string tables that the names lie in: an object has at most one full and one dynamic symbol table.
    char *names[2];
};

uint64_t memprot_elf_identity_add(uint64_t identity, const void *bytes, size_t size) {
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < size; i++)
        identity = (identity ^ byte[i]) * 0x100000001b3;
    return identity;
}

// Of several names for one address: the most visible, then the public one (cbrt rather than __cbrt or
// cbrtf64).
static bool names_better(const struct memprot_elf_function *a, const struct memprot_elf_function *b) {
    if (a->rank != b->rank)
        return a->rank > b->rank;
    if ((a->name[0] == '_') != (b->name[0] == '_'))
        return b->name[0] == '_';
    return strlen(a->name) < strlen(b->name);
}

const struct memprot_elf_function *memprot_elf_find_function(const struct memprot_elf *elf, uint64_t address) {
    const struct memprot_elf_function *best = NULL;
    for (size_t i = 0; i < elf->function_count; i++) {
        const struct memprot_elf_function *function = &elf->functions[i];
        if (function->indirect || address < function->start || address - function->start >= function->size)
            continue;
        if (!best || function->start > best->start || (function->start == best->start && names_better(function, best)))
            best = function;
    }
    return best;
}

static bool read_at(const struct elf_file *file, void *ret, uint64_t size, uint64_t offset) {
    if (offset > file->size || size > file->size - offset) {
        errno = ENOEXEC;
        return false;
    }
    for (uint64_t done = 0; done < size;) {
        ssize_t count = pread(file->fd, (char *)ret + done, size - done, (off_t)(offset + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            // The file has become shorter while it was read.
            errno = count == 0 ? ENOEXEC : errno;
            return false;
        }
        done += (uint64_t)count;
    }
    return true;
}

// Allocates one byte more than the table has and makes it a string's end. NULL with errno set on failure.
static void *read_table(const struct elf_file *file, uint64_t size, uint64_t offset) {
    if (size > max_table_size || offset > file->size || size > file->size - offset) {
        errno = ENOEXEC;
        return NULL;
    }
    char *table = malloc(size + 1);
    if (!table)
        return NULL;
    if (!read_at(file, table, size, offset)) {
        int saved = errno;
        free(table);
        errno = saved;
        return NULL;
    }
    table[size] = '\0';
    return table;
}

static bool read_header(const struct elf_file *file, Elf64_Ehdr *ret) {
    if (!read_at(file, ret, sizeof *ret, 0))
        return false;
    bool supported = memcmp(ret->e_ident, ELFMAG, SELFMAG) == 0 && ret->e_ident[EI_CLASS] == ELFCLASS64 &&
                     ret->e_ident[EI_DATA] == ELFDATA2LSB && ret->e_phentsize == sizeof(Elf64_Phdr);
    if (!supported)
        errno = ENOEXEC;
    return supported;
}

static bool read_segments(const struct elf_file *file, const Elf64_Ehdr *header, struct memprot_elf *ret) {
    size_t size = header->e_phnum * sizeof(Elf64_Phdr);
    Elf64_Phdr *segments = read_table(file, size, header->e_phoff);
    if (!segments)
        return false;
    ret->segments = segments;
    ret->segment_count = header->e_phnum;
    ret->identity = memprot_elf_identity_add(MEMPROT_ELF_IDENTITY_START, segments, size);
    bool loaded = false;
    for (size_t i = 0; i < ret->segment_count; i++) {
        if (segments[i].p_type == PT_LOAD && (!loaded || segments[i].p_vaddr < ret->load_address)) {
            ret->load_address = segments[i].p_vaddr;
            loaded = true;
        }
        if (segments[i].p_type != PT_NOTE)
            continue;
        void *notes = read_table(file, segments[i].p_filesz, segments[i].p_offset);
        if (!notes)
            return false;
        ret->identity = memprot_elf_identity_add(ret->identity, notes, segments[i].p_filesz);
        free(notes);
    }
    return true;
}

static bool append(struct function_list *list, struct memprot_elf_function function) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 256;
        void *functions = realloc(list->functions, capacity * sizeof *list->functions);
        if (!functions)
            return false;
        list->functions = functions;
        list->capacity = capacity;
    }
    list->functions[list->count++] = function;
    return true;
}

static unsigned char binding_rank(unsigned char binding) {
    return binding == STB_GLOBAL || binding == STB_GNU_UNIQUE ? 2 : binding == STB_WEAK ? 1 : 0;
}

// Adds the functions of one symbol table. Only a failed read or allocation is a failure.
static bool read_symbols(const struct elf_file *file, const Elf64_Shdr *table, const Elf64_Shdr *strings, char **names,
                         struct function_list *list) {
    if (table->sh_entsize != sizeof(Elf64_Sym) || strings->sh_type != SHT_STRTAB)
        return true;
    Elf64_Sym *symbols = read_table(file, table->sh_size, table->sh_offset);
    if (!symbols)
        return false;
    *names = read_table(file, strings->sh_size, strings->sh_offset);
    bool complete = *names != NULL;
    size_t count_before = list->count;
    for (size_t i = 0; complete && i < table->sh_size / sizeof *symbols; i++) {
        const Elf64_Sym *symbol = &symbols[i];
        unsigned char type = ELF64_ST_TYPE(symbol->st_info);
        if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol->st_shndx == SHN_UNDEF || symbol->st_size == 0 ||
            symbol->st_name >= strings->sh_size || (*names)[symbol->st_name] == '\0')
            continue;
        complete = append(list, (struct memprot_elf_function){
                                    .start = symbol->st_value,
                                    .size = symbol->st_size,
                                    .name = *names + symbol->st_name,
                                    .rank = binding_rank(ELF64_ST_BIND(symbol->st_info)),
                                    .indirect = type == STT_GNU_IFUNC,
                                });
    }
    int saved = errno;
    if (list->count == count_before) {
        free(*names);
        *names = NULL;
    }
    free(symbols);
    errno = saved;
    return complete;
}

static void function_list_deinit(struct function_list *list) {
    int saved = errno;
    free(list->functions);
    free(list->names[0]);
    free(list->names[1]);
    errno = saved;
}

static bool read_tables(const struct elf_file *file, const Elf64_Shdr *sections, uint64_t count,
                        struct function_list *list) {
    static const Elf64_Word types[2] = {SHT_SYMTAB, SHT_DYNSYM};
    for (size_t type = 0; type < 2; type++) {
        uint64_t i = 0;
        while (i < count && sections[i].sh_type != types[type])
            i++;
        if (i < count && sections[i].sh_link < count &&
            !read_symbols(file, &sections[i], &sections[sections[i].sh_link], &list->names[type], list))
            return false;
    }
    return true;
}

static bool read_functions(const struct elf_file *file, const Elf64_Ehdr *header, struct memprot_elf *ret) {
    // Section headers may be stripped: then there is nothing to read.
    if (header->e_shoff == 0 || header->e_shentsize != sizeof(Elf64_Shdr))
        return true;
    uint64_t count = header->e_shnum;
    if (count == 0) {
        // Too many sections for e_shnum: their number is in the first one.
        Elf64_Shdr first;
        if (!read_at(file, &first, sizeof first, header->e_shoff))
            return false;
        count = first.sh_size;
    }
    if (count > max_table_size / sizeof(Elf64_Shdr)) {
        errno = ENOEXEC;
        return false;
    }
    Elf64_Shdr *sections = read_table(file, count * sizeof *sections, header->e_shoff);
    if (!sections)
        return false;
    struct function_list list = {NULL, 0, 0, {NULL, NULL}};
    bool complete = read_tables(file, sections, count, &list);
    int saved = errno;
    free(sections);
    errno = saved;
    if (!complete) {
        function_list_deinit(&list);
        return false;
    }
    ret->functions = list.functions;
    ret->function_count = list.count;
    return true;
}

// For an entry that failed before its functions were read: one that is complete is never destroyed.
static void entry_destroy(struct elf_entry *entry) {
    int saved = errno;
    free((void *)entry->elf.path);
    free((void *)entry->elf.segments);
    free(entry);
    errno = saved;
}

static struct elf_entry *entry_create(const char *path, const struct elf_file *file, const struct stat *status) {
    struct elf_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    Elf64_Ehdr header;
    entry->status = *status;
    entry->elf.path = strdup(path);
    if (!entry->elf.path || !read_header(file, &header) || !read_segments(file, &header, &entry->elf) ||
        !read_functions(file, &header, &entry->elf)) {
        entry_destroy(entry);
        return NULL;
    }
    return entry;
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static struct elf_entry *find_entry(const char *path, const struct stat *status) {
    for (struct elf_entry *entry = atomic_load(&entries); entry; entry = entry->next) {
        if (same_file(&entry->status, status) && strcmp(entry->elf.path, path) == 0)
            return entry;
    }
    return NULL;
}

const struct memprot_elf *memprot_elf_read(const char *path) {
    struct stat status;
    if (stat(path, &status) < 0)
        return NULL;
    struct elf_entry *entry = find_entry(path, &status);
    if (entry)
        return &entry->elf;

    // A named pipe under this name must not block us.
    struct elf_file file = {.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.fd < 0)
        return NULL;
    if (fstat(file.fd, &status) == 0) {
        errno = ENOEXEC;
        file.size = (uint64_t)status.st_size;
        entry = S_ISREG(status.st_mode) ? entry_create(path, &file, &status) : NULL;
    }
    int saved = errno;
    close(file.fd);
    errno = saved;
    if (!entry)
        return NULL;
    // Two threads may read one file at once; the list then has it twice, which is harmless.
    entry->next = atomic_load(&entries);
    while (!atomic_compare_exchange_weak(&entries, &entry->next, entry))
        continue;
    return &entry->elf;
}
