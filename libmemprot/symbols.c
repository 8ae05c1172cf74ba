#include "symbols.h"

#include "elf_functions.h"
#include "indirect_functions.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct loaded_object {
    uintptr_t pc;
    bool found;
    char path[PATH_MAX];
    uintptr_t bias, load_address;
    uint64_t identity;
};

// May run in a signal handler.
static const Elf64_Phdr *segment_with(const struct dl_phdr_info *info, uintptr_t address, size_t size) {
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const Elf64_Phdr *segment = &info->dlpi_phdr[i];
        uintptr_t offset = address - (info->dlpi_addr + segment->p_vaddr);
        if (segment->p_type == PT_LOAD && offset < segment->p_memsz && size <= segment->p_memsz - offset)
            return segment;
    }
    return NULL;
}

// May run in a signal handler.
static uint64_t loaded_identity(const struct dl_phdr_info *info) {
    uint64_t identity = memprot_elf_identity_add(MEMPROT_ELF_IDENTITY_START, info->dlpi_phdr,
                                                 info->dlpi_phnum * sizeof *info->dlpi_phdr);
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const Elf64_Phdr *notes = &info->dlpi_phdr[i];
        uintptr_t address = info->dlpi_addr + notes->p_vaddr;
        if (notes->p_type == PT_NOTE && segment_with(info, address, notes->p_filesz))
            identity = memprot_elf_identity_add(identity, (const void *)address, notes->p_filesz);
    }
    return identity;
}

// May run in a signal handler.
static int visit_object(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    struct loaded_object *object = data;
    if (!segment_with(info, object->pc, 1))
        return 0;
    object->found = true;
    object->bias = info->dlpi_addr;
    object->load_address = UINTPTR_MAX;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && start < object->load_address)
            object->load_address = start;
    }
    object->identity = loaded_identity(info);
    // A path that is too long or not known is left empty, which no file has.
    if (info->dlpi_name[0] == '\0') {
        ssize_t length = readlink("/proc/self/exe", object->path, sizeof object->path - 1);
        object->path[length < 0 ? 0 : length] = '\0';
    } else if (strlen(info->dlpi_name) < sizeof object->path) {
        memcpy(object->path, info->dlpi_name, strlen(info->dlpi_name) + 1);
    }
    return 1;
}

// May run in a signal handler.
static void set_from_elf(const struct memprot_elf *elf, uint64_t address, struct memprot_symbol *ret) {
    const struct memprot_elf_function *function = memprot_elf_find_function(elf, address);
    *ret = (struct memprot_symbol){
        .function = function ? function->name : NULL,
        .library = elf->path,
        .offset = address - (function ? function->start : elf->load_address),
        .position = address,
        .has_position = true,
    };
}

// Whether the address, which no symbol covers, lies in what an indirect function of the loaded object resolves to.
static void name_implementation(const struct memprot_elf *elf, uintptr_t bias, uintptr_t pc,
                                struct memprot_symbol *ret) {
    struct memprot_indirect_function function;
    if (!memprot_indirect_function_find(elf, bias, pc, &function))
        return;
    ret->function = function.name;
    ret->offset = pc - function.start;
}

bool memprot_symbol_find(uintptr_t pc, struct memprot_symbol *ret) {
    *ret = (struct memprot_symbol){0};
    struct loaded_object object = {.pc = pc};
    dl_iterate_phdr(visit_object, &object);
    if (!object.found)
        return false;
    const struct memprot_elf *elf = memprot_elf_read(object.path);
    bool same = elf && elf->identity == object.identity;
    if (same) {
        set_from_elf(elf, pc - object.bias, ret);
        if (!ret->function)
            name_implementation(elf, object.bias, pc, ret);
        if (ret->function)
            return true;
    }
    Dl_info info;
    if (!dladdr((const void *)pc, &info))
        return same;
    ret->library = same ? elf->path : info.dli_fname;
    ret->function = info.dli_sname;
    ret->offset = pc - (info.dli_sname ? (uintptr_t)info.dli_saddr : object.load_address);
    return true;
}

#ifdef DLFO_STRUCT_HAS_EH_DBASE // the C library has _dl_find_object
// dl_iterate_phdr(3) waits for a lock that is held by who waits for the interpreter, which the interrupted code may
// have: a callback that is written in Python. May run in a signal handler.
static bool find_object(struct loaded_object *object) {
    struct dl_find_object found;
    if (_dl_find_object((void *)object->pc, &found) != 0)
        return false;
    // Linkers put the headers at the start of what is loaded first.
    const Elf64_Ehdr *header = found.dlfo_map_start;
    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
        return false;
    struct dl_phdr_info info = {
        .dlpi_addr = found.dlfo_link_map->l_addr,
        .dlpi_name = found.dlfo_link_map->l_name,
        .dlpi_phdr = (const Elf64_Phdr *)((uintptr_t)header + header->e_phoff),
        .dlpi_phnum = header->e_phnum,
    };
    return visit_object(&info, sizeof info, object) != 0;
}
#else
// May run in a signal handler.
static bool find_object(struct loaded_object *object) {
    (void)object;
    return false;
}
#endif

// May run in a signal handler.
bool memprot_symbol_find_in_handler(uintptr_t pc, struct memprot_symbol *ret) {
    *ret = (struct memprot_symbol){0};
    struct loaded_object object = {.pc = pc};
    if (!find_object(&object))
        return false;
    const struct memprot_elf *elf = memprot_elf_read(object.path);
    if (!elf || elf->identity != object.identity)
        return false;
    set_from_elf(elf, pc - object.bias, ret);
    struct memprot_indirect_function function;
    if (!ret->function && memprot_indirect_function_find_known(elf, object.bias, pc, &function))
        ret->function = function.name;
    return true;
}

static int visit_by_identity(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size;
    struct loaded_object *object = data;
    if (loaded_identity(info) != object->identity || strlen(info->dlpi_name) >= sizeof object->path)
        return 0;
    object->found = true;
    object->bias = info->dlpi_addr;
    strcpy(object->path, info->dlpi_name);
    return 1;
}

static bool same_file(const char *a, const char *b) {
    struct stat a_status, b_status;
    return stat(a, &a_status) == 0 && stat(b, &b_status) == 0 && a_status.st_dev == b_status.st_dev &&
           a_status.st_ino == b_status.st_ino;
}

// What an indirect function resolves to is not in the file; where this process has the file loaded too, it chooses
// as any process on this machine does.
static void set_from_file(const struct memprot_elf *elf, uint64_t address, struct memprot_symbol *ret) {
    set_from_elf(elf, address, ret);
    if (ret->function)
        return;
    struct loaded_object object = {.identity = elf->identity};
    dl_iterate_phdr(visit_by_identity, &object);
    if (object.found && same_file(object.path, elf->path))
        name_implementation(elf, object.bias, object.bias + address, ret);
}

bool memprot_symbol_find_in_file(const char *path, uint64_t address, struct memprot_symbol *ret) {
    *ret = (struct memprot_symbol){0};
    const struct memprot_elf *elf = memprot_elf_read(path);
    if (!elf)
        return false;
    set_from_file(elf, address, ret);
    return true;
}

bool memprot_symbol_find_at_file_offset(const char *path, uint64_t offset, struct memprot_symbol *ret) {
    *ret = (struct memprot_symbol){0};
    const struct memprot_elf *elf = memprot_elf_read(path);
    if (!elf)
        return false;
    ret->library = elf->path;
    ret->offset = offset;
    for (size_t i = 0; i < elf->segment_count; i++) {
        const Elf64_Phdr *segment = &elf->segments[i];
        if (segment->p_type == PT_LOAD && offset >= segment->p_offset &&
            offset - segment->p_offset < segment->p_filesz) {
            set_from_file(elf, offset - segment->p_offset + segment->p_vaddr, ret);
            break;
        }
    }
    return true;
}
