#include "elf_functions.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// Far more than the symbols of any real library: a bound on what a broken file can make us allocate.
static const uint64_t max_table_size = (uint64_t)1 << 30;

struct elf_entry {
    struct memprot_elf elf;
    size_t segments_size;
    struct stat status;
    struct elf_entry *next;
    char path[];
};

// Only ever grows at its head, so that readers need no lock and a fork leaves none behind.
static _Atomic(struct elf_entry *) entries;

struct elf_file {
    int fd;
    uint64_t size;
};

struct table {
    void *bytes; // of the kernel, not of malloc(3): a signal handler may read files too. NULL: none
    size_t size;
};

struct function_list {
    struct table functions;
    size_t count;
    // The string tables that the names lie in: an object has at most one full and one dynamic symbol table.
    struct table names[2];
};

// Zeros, at least one byte of them. NULL with errno set on failure. May run in a signal handler.
static void *allocate(size_t size) {
    void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return bytes == MAP_FAILED ? NULL : bytes;
}

// Leaves errno as it is. May run in a signal handler.
static void give_back(void *bytes, size_t size) {
    int saved = errno;
    if (bytes)
        (void)munmap(bytes, size); // what cannot be unmapped stays, and nobody uses it
    errno = saved;
}

// May run in a signal handler.
static void table_deinit(struct table *table) {
    give_back(table->bytes, table->size);
    *table = (struct table){0};
}

// May run in a signal handler.
uint64_t memprot_elf_identity_add(uint64_t identity, const void *bytes, size_t size) {
    const unsigned char *byte = bytes;
    for (size_t i = 0; i < size; i++)
        identity = (identity ^ byte[i]) * 0x100000001b3;
    return identity;
}

// Of several names for one address: the most visible, then the public one (cbrt rather than __cbrt or
// cbrtf64). May run in a signal handler.
static bool names_better(const struct memprot_elf_function *a, const struct memprot_elf_function *b) {
    if (a->rank != b->rank)
        return a->rank > b->rank;
    if ((a->name[0] == '_') != (b->name[0] == '_'))
        return b->name[0] == '_';
    return strlen(a->name) < strlen(b->name);
}

// May run in a signal handler.
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

// May run in a signal handler.
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

// Allocates one byte more than the table has, which is a string's end. False with errno set on failure. May run in a
// signal handler.
static bool table_read(const struct elf_file *file, uint64_t size, uint64_t offset, struct table *ret) {
    *ret = (struct table){.size = size + 1};
    if (size > max_table_size || offset > file->size || size > file->size - offset) {
        errno = ENOEXEC;
        return false;
    }
    ret->bytes = allocate(ret->size);
    if (ret->bytes && read_at(file, ret->bytes, size, offset))
        return true;
    table_deinit(ret);
    return false;
}

// May run in a signal handler.
static bool read_header(const struct elf_file *file, Elf64_Ehdr *ret) {
    if (!read_at(file, ret, sizeof *ret, 0))
        return false;
    bool supported = memcmp(ret->e_ident, ELFMAG, SELFMAG) == 0 && ret->e_ident[EI_CLASS] == ELFCLASS64 &&
                     ret->e_ident[EI_DATA] == ELFDATA2LSB && ret->e_phentsize == sizeof(Elf64_Phdr);
    if (!supported)
        errno = ENOEXEC;
    return supported;
}

// May run in a signal handler.
static bool read_segments(const struct elf_file *file, const Elf64_Ehdr *header, struct elf_entry *entry) {
    struct memprot_elf *elf = &entry->elf;
    struct table table;
    if (!table_read(file, header->e_phnum * sizeof(Elf64_Phdr), header->e_phoff, &table))
        return false;
    const Elf64_Phdr *segments = table.bytes;
    elf->segments = segments;
    elf->segment_count = header->e_phnum;
    entry->segments_size = table.size;
    elf->identity = memprot_elf_identity_add(MEMPROT_ELF_IDENTITY_START, segments, table.size - 1);
    bool loaded = false;
    for (size_t i = 0; i < elf->segment_count; i++) {
        if (segments[i].p_type == PT_LOAD && (!loaded || segments[i].p_vaddr < elf->load_address)) {
            elf->load_address = segments[i].p_vaddr;
            loaded = true;
        }
        if (segments[i].p_type != PT_NOTE)
            continue;
        struct table notes;
        if (!table_read(file, segments[i].p_filesz, segments[i].p_offset, &notes))
            return false;
        elf->identity = memprot_elf_identity_add(elf->identity, notes.bytes, segments[i].p_filesz);
        table_deinit(&notes);
    }
    return true;
}

// May run in a signal handler.
static bool append(struct function_list *list, struct memprot_elf_function function) {
    struct table *table = &list->functions;
    if ((list->count + 1) * sizeof function > table->size) {
        size_t size = table->size ? 2 * table->size : 256 * sizeof function;
        void *bytes = table->bytes ? mremap(table->bytes, table->size, size, MREMAP_MAYMOVE) : allocate(size);
        if (!bytes || bytes == MAP_FAILED)
            return false;
        *table = (struct table){bytes, size};
    }
    ((struct memprot_elf_function *)table->bytes)[list->count++] = function;
    return true;
}

// May run in a signal handler.
static unsigned char binding_rank(unsigned char binding) {
    return binding == STB_GLOBAL || binding == STB_GNU_UNIQUE ? 2 : binding == STB_WEAK ? 1 : 0;
}

// Adds the functions of one symbol table. Only a failed read or allocation is a failure. May run in a signal handler.
static bool read_symbols(const struct elf_file *file, const Elf64_Shdr *table, const Elf64_Shdr *strings,
                         struct table *names, struct function_list *list) {
    if (table->sh_entsize != sizeof(Elf64_Sym) || strings->sh_type != SHT_STRTAB)
        return true;
    struct table read;
    if (!table_read(file, table->sh_size, table->sh_offset, &read))
        return false;
    const Elf64_Sym *symbols = read.bytes;
    bool complete = table_read(file, strings->sh_size, strings->sh_offset, names);
    const char *text = names->bytes;
    size_t count_before = list->count;
    for (size_t i = 0; complete && i < table->sh_size / sizeof *symbols; i++) {
        const Elf64_Sym *symbol = &symbols[i];
        unsigned char type = ELF64_ST_TYPE(symbol->st_info);
        if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol->st_shndx == SHN_UNDEF || symbol->st_size == 0 ||
            symbol->st_name >= strings->sh_size || text[symbol->st_name] == '\0')
            continue;
        complete = append(list, (struct memprot_elf_function){
                                    .start = symbol->st_value,
                                    .size = symbol->st_size,
                                    .name = text + symbol->st_name,
                                    .rank = binding_rank(ELF64_ST_BIND(symbol->st_info)),
                                    .indirect = type == STT_GNU_IFUNC,
                                });
    }
    if (list->count == count_before)
        table_deinit(names);
    table_deinit(&read);
    return complete;
}

// May run in a signal handler.
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

// May run in a signal handler.
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
    struct table sections;
    if (!table_read(file, count * sizeof(Elf64_Shdr), header->e_shoff, &sections))
        return false;
    struct function_list list = {0};
    bool complete = read_tables(file, sections.bytes, count, &list);
    table_deinit(&sections);
    if (!complete) {
        table_deinit(&list.functions);
        table_deinit(&list.names[0]);
        table_deinit(&list.names[1]);
        return false;
    }
    ret->functions = list.functions.bytes;
    ret->function_count = list.count;
    return true;
}

// NULL with errno set on failure. May run in a signal handler.
static struct elf_entry *entry_create(const char *path, const struct elf_file *file, const struct stat *status) {
    size_t length = strnlen(path, PATH_MAX), size = sizeof(struct elf_entry) + length + 1;
    struct elf_entry *entry = allocate(size);
    if (!entry)
        return NULL;
    Elf64_Ehdr header;
    entry->status = *status;
    memcpy(entry->path, path, length);
    entry->elf.path = entry->path;
    if (read_header(file, &header) && read_segments(file, &header, entry) && read_functions(file, &header, &entry->elf))
        return entry;
    give_back((void *)entry->elf.segments, entry->segments_size);
    give_back(entry, size);
    return NULL;
}

// May run in a signal handler.
static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

// May run in a signal handler.
static struct elf_entry *find_entry(const char *path, const struct stat *status) {
    for (struct elf_entry *entry = atomic_load(&entries); entry; entry = entry->next) {
        if (same_file(&entry->status, status) && strcmp(entry->elf.path, path) == 0)
            return entry;
    }
    return NULL;
}

// May run in a signal handler.
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
