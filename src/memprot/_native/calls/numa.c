// On which memory of a machine with several (a node each) pages are.
#include "call.h"

#include "docstrings.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/syscall.h>

// As many as the kernel's interface can carry: a mask of one small page.
enum { NODES = 8 * 4096 };

// How many bits of a mask the kernel must be told of to look at this one: it looks at one fewer.
static uint64_t bits_up_to(uint64_t node) { return node + 2; }

static int take_node(const struct memprot_call *call, int i, Py_ssize_t k, PyObject *nodes, uint64_t *ret) {
    PyObject *item = PyTuple_GET_ITEM(nodes, k);
    if (memprot_call_item(call, i, k, item, ret) < 0)
        return -1;
    if (*ret < NODES)
        return 0;
    PyErr_Format(PyExc_ValueError, "%s() argument '%s[%zd]' is no node: nodes are numbered from 0 to %d, not %R",
                 call->name, call->parameters[i], k, NODES - 1, item);
    return -1;
}

// The nodes of parameter i as a mask, and how many of its bits the kernel shall look at, as it counts them.
static int take_mask(const struct memprot_call *call, int i, PyObject *nodes, uint64_t *mask, uint64_t *bits) {
    memset(mask, 0, NODES / 8);
    *bits = 0;
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(nodes); k++) {
        uint64_t node;
        if (take_node(call, i, k, nodes, &node) < 0)
            return -1;
        mask[node / 64] |= (uint64_t)1 << node % 64;
        if (*bits < bits_up_to(node))
            *bits = bits_up_to(node);
    }
    return 0;
}

static PyObject *done(const struct memprot_call *call, PyObject *const *gathered, const uint64_t *words) {
    int error;
    if (memprot_call_make(call, words, &error) == -1)
        return memprot_call_failed(call, gathered, error);
    Py_RETURN_NONE;
}

static PyObject *call_mbind(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "mbind",
        .parameters = {"addr", "length", "mode", "nodes", "flags"},
        .required = 4,
        .count = 5,
        .number = SYS_mbind,
        .is_long = memprot_always_long,
    };
    PyObject *gathered[5];
    uint64_t words[5], mask[NODES / 64], bits;
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 0, 3, words) < 0 || memprot_call_words(&call, gathered, 4, 5, words) < 0)
        return NULL;
    PyObject *nodes = gathered[3] = memprot_call_items(&call, 3, gathered[3]), *result = NULL;
    if (nodes != NULL && take_mask(&call, 3, nodes, mask, &bits) == 0) {
        const uint64_t registers[] = {words[0], words[1], words[2], bits == 0 ? 0 : (uintptr_t)mask, bits, words[4]};
        result = done(&call, gathered, registers);
    }
    Py_XDECREF(nodes);
    return result;
}

static PyObject *call_set_mempolicy(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "set_mempolicy",
        .parameters = {"mode", "nodes"},
        .required = 1,
        .count = 2,
        .number = SYS_set_mempolicy,
    };
    PyObject *gathered[2];
    uint64_t mode, mask[NODES / 64], bits;
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 0, 1, &mode) < 0)
        return NULL;
    PyObject *nodes = gathered[1] == NULL ? PyTuple_New(0) : memprot_call_items(&call, 1, gathered[1]), *result = NULL;
    gathered[1] = nodes;
    if (nodes != NULL && take_mask(&call, 1, nodes, mask, &bits) == 0) {
        const uint64_t registers[MEMPROT_PARAMETERS] = {mode, bits == 0 ? 0 : (uintptr_t)mask, bits};
        result = done(&call, gathered, registers);
    }
    Py_XDECREF(nodes);
    return result;
}

static PyObject *nodes_of(const uint64_t *mask) {
    PyObject *list = PyList_New(0);
    for (int node = 0; list != NULL && node < NODES; node++) {
        if ((mask[node / 64] >> node % 64 & 1) == 0)
            continue;
        PyObject *number = PyLong_FromLong(node);
        if (number == NULL || PyList_Append(list, number) < 0)
            Py_CLEAR(list);
        Py_XDECREF(number);
    }
    PyObject *nodes = list == NULL ? NULL : PyList_AsTuple(list);
    Py_XDECREF(list);
    return nodes;
}

static PyObject *call_get_mempolicy(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "get_mempolicy", .parameters = {"addr"}, .count = 1, .number = SYS_get_mempolicy};
    PyObject *gathered[1];
    uint64_t address, mask[NODES / 64] = {0};
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0)
        return NULL;
    if (gathered[0] == NULL)
        gathered[0] = Py_None;
    int mode, error, of_address = gathered[0] != Py_None;
    if (of_address ? memprot_call_words(&call, gathered, 0, 1, &address) < 0 : (address = 0))
        return NULL;
    const uint64_t words[MEMPROT_PARAMETERS] = {(uintptr_t)&mode, (uintptr_t)mask, NODES, address,
                                                of_address ? MPOL_F_ADDR : 0};
    if (memprot_call_make(&call, words, &error) == -1)
        return memprot_call_failed(&call, gathered, error);
    PyObject *nodes = nodes_of(mask);
    return nodes == NULL ? NULL : Py_BuildValue("iN", mode, nodes);
}

// What a page's status is until the kernel has come to it.
static const int NOT_REACHED = -EAGAIN;

struct moves {
    Py_ssize_t count;
    uint64_t *pages;
    int *nodes, *status;
};

static void moves_deinit(struct moves *moves) {
    PyMem_Free(moves->pages);
    PyMem_Free(moves->nodes);
    PyMem_Free(moves->status);
}

static int moves_init(Py_ssize_t count, struct moves *ret) {
    *ret = (struct moves){count, PyMem_New(uint64_t, (size_t)count), PyMem_New(int, (size_t)count),
                          PyMem_New(int, (size_t)count)};
    if (ret->pages != NULL && ret->nodes != NULL && ret->status != NULL)
        return 0;
    moves_deinit(ret);
    PyErr_NoMemory();
    return -1;
}

static int take_moves(const struct memprot_call *call, PyObject *pages, PyObject *nodes, struct moves *ret) {
    for (Py_ssize_t k = 0; k < ret->count; k++) {
        ret->status[k] = NOT_REACHED;
        uint64_t node = 0;
        if (memprot_call_item(call, 1, k, PyTuple_GET_ITEM(pages, k), &ret->pages[k]) < 0 ||
            (nodes != Py_None && take_node(call, 2, k, nodes, &node) < 0))
            return -1;
        ret->nodes[k] = (int)node;
    }
    return 0;
}

static PyObject *status_list(const struct moves *moves) {
    PyObject *list = PyList_New(moves->count);
    for (Py_ssize_t k = 0; list != NULL && k < moves->count; k++) {
        PyObject *status = PyLong_FromLong(moves->status[k]);
        if (status == NULL)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, k, status);
    }
    return list;
}

static PyObject *move(const struct memprot_call *call, PyObject *const *gathered, const uint64_t *words) {
    PyObject *pages = gathered[1], *nodes = gathered[2];
    if (nodes != Py_None && PyTuple_GET_SIZE(nodes) != PyTuple_GET_SIZE(pages)) {
        PyErr_Format(PyExc_ValueError, "move_pages() needs as many nodes as pages: %zd, not %zd",
                     PyTuple_GET_SIZE(pages), PyTuple_GET_SIZE(nodes));
        return NULL;
    }
    struct moves moves;
    if (moves_init(PyTuple_GET_SIZE(pages), &moves) < 0)
        return NULL;
    PyObject *result = NULL;
    if (take_moves(call, pages, nodes, &moves) == 0) {
        const uint64_t registers[] = {
            words[0],
            (uint64_t)moves.count,
            (uintptr_t)moves.pages,
            nodes == Py_None ? 0 : (uintptr_t)moves.nodes,
            (uintptr_t)moves.status,
            words[3],
        };
        int error;
        result = memprot_call_make(call, registers, &error) == -1 ? memprot_call_failed(call, gathered, error)
                                                                  : status_list(&moves);
    }
    moves_deinit(&moves);
    return result;
}

static PyObject *call_move_pages(MEMPROT_ARGUMENTS) {
    static const struct memprot_call call = {
        .name = "move_pages",
        .parameters = {"pid", "pages", "nodes", "flags"},
        .required = 2,
        .count = 4,
        .number = SYS_move_pages,
        .is_long = memprot_always_long,
    };
    PyObject *gathered[4];
    uint64_t words[4];
    if (memprot_call_gather(&call, arguments, positional, keywords, gathered) < 0 ||
        memprot_call_words(&call, gathered, 0, 1, words) < 0 || memprot_call_words(&call, gathered, 3, 4, words) < 0)
        return NULL;
    PyObject *given = gathered[2], *result = NULL;
    gathered[1] = memprot_call_items(&call, 1, gathered[1]);
    gathered[2] = NULL;
    if (gathered[1] != NULL)
        gathered[2] = given == NULL || given == Py_None ? Py_NewRef(Py_None) : memprot_call_items(&call, 2, given);
    if (gathered[2] != NULL)
        result = move(&call, gathered, words);
    Py_XDECREF(gathered[1]);
    Py_XDECREF(gathered[2]);
    return result;
}

PyMethodDef memprot_numa_calls[] = {
    MEMPROT_METHOD(mbind),      MEMPROT_METHOD(set_mempolicy), MEMPROT_METHOD(get_mempolicy),
    MEMPROT_METHOD(move_pages), {NULL, NULL, 0, NULL},
};
