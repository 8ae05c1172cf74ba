#include "array_slots.h"

#include "claim.h"
#include "scope.h"

#include "record.h"

// Those of numpy.ndarray and its flat iterator, as they were found.
static struct {
    PyTypeObject *array, *flat;
    PyNumberMethods *number_methods;
    PySequenceMethods *sequence_methods;
    PyMappingMethods *mapping_methods, *flat_mapping_methods;
    PyNumberMethods number;
    PySequenceMethods sequence;
    PyMappingMethods mapping, flat_mapping;
    richcmpfunc compare, flat_compare;
    iternextfunc flat_next;
} plain;

// Those of its attributes that write to the array's memory when they are set.
static const char *const attribute_names[] = {
    [MEMPROT_ARRAY_FLAT] = "flat", [MEMPROT_ARRAY_REAL] = "real", [MEMPROT_ARRAY_IMAG] = "imag"};
enum { ATTRIBUTES = sizeof attribute_names / sizeof *attribute_names };
static struct {
    PyGetSetDescrObject *descriptor;
    PyGetSetDef *plain, checked;
} attributes[ATTRIBUTES];

// ---- what every operation does last

// 1 when there is one, which is then the exception that is set.
static int raise_waiting(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *error = memprot_claim_is_waiting(MEMPROT_CLAIM_HERE, 0) > 0 ? memprot_scope_take() : NULL;
    if (!error) {
        if (PyErr_Occurred()) {
            Py_XDECREF(type), Py_XDECREF(value), Py_XDECREF(traceback);
            return 1;
        }
        PyErr_Restore(type, value, traceback);
        return 0;
    }
    if (type) {
        PyErr_NormalizeException(&type, &value, &traceback);
        if (traceback)
            PyException_SetTraceback(value, traceback);
        Py_DECREF(type), Py_XDECREF(traceback);
    }
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    if (value && value != error)
        PyException_SetContext(error, value);
    else
        Py_XDECREF(value);
    Py_DECREF(error);
    return 1;
}

// Nearly always nobody's.
static inline bool is_any_waiting(void) { return __builtin_expect(memprot_record_waiting() > 0, false); }

static inline PyObject *checked(PyObject *result) {
    if (is_any_waiting() && raise_waiting())
        Py_CLEAR(result);
    return result;
}

static inline int checked_status(int status) { return is_any_waiting() && raise_waiting() ? -1 : status; }

PyObject *memprot_array_result(PyObject *result) { return checked(result); }

// ---- numbers

#define UNARY(X)                                                                                                       \
    X(nb_negative)                                                                                                     \
    X(nb_positive)                                                                                                     \
    X(nb_absolute)                                                                                                     \
    X(nb_invert)                                                                                                       \
    X(nb_int)                                                                                                          \
    X(nb_float)                                                                                                        \
    X(nb_index)

#define BINARY(X)                                                                                                      \
    X(nb_add)                                                                                                          \
    X(nb_subtract)                                                                                                     \
    X(nb_multiply)                                                                                                     \
    X(nb_remainder)                                                                                                    \
    X(nb_divmod)                                                                                                       \
    X(nb_lshift)                                                                                                       \
    X(nb_rshift)                                                                                                       \
    X(nb_and)                                                                                                          \
    X(nb_xor)                                                                                                          \
    X(nb_or)                                                                                                           \
    X(nb_floor_divide)                                                                                                 \
    X(nb_true_divide)                                                                                                  \
    X(nb_matrix_multiply)                                                                                              \
    X(nb_inplace_add)                                                                                                  \
    X(nb_inplace_subtract)                                                                                             \
    X(nb_inplace_multiply)                                                                                             \
    X(nb_inplace_remainder)                                                                                            \
    X(nb_inplace_lshift)                                                                                               \
    X(nb_inplace_rshift)                                                                                               \
    X(nb_inplace_and)                                                                                                  \
    X(nb_inplace_xor)                                                                                                  \
    X(nb_inplace_or)                                                                                                   \
    X(nb_inplace_floor_divide)                                                                                         \
    X(nb_inplace_true_divide)                                                                                          \
    X(nb_inplace_matrix_multiply)

#define TERNARY(X)                                                                                                     \
    X(nb_power)                                                                                                        \
    X(nb_inplace_power)

#define DEFINE_UNARY(slot)                                                                                             \
    static PyObject *slot(PyObject *self) { return checked(plain.number.slot(self)); }
#define DEFINE_BINARY(slot)                                                                                            \
    static PyObject *slot(PyObject *left, PyObject *right) { return checked(plain.number.slot(left, right)); }
#define DEFINE_TERNARY(slot)                                                                                           \
    static PyObject *slot(PyObject *left, PyObject *right, PyObject *modulus) {                                        \
        return checked(plain.number.slot(left, right, modulus));                                                       \
    }

UNARY(DEFINE_UNARY)
BINARY(DEFINE_BINARY)
TERNARY(DEFINE_TERNARY)

static int nb_bool(PyObject *self) { return checked_status(plain.number.nb_bool(self)); }

// ---- sequences, mappings and the rest

static PyObject *sq_concat(PyObject *self, PyObject *other) { return checked(plain.sequence.sq_concat(self, other)); }
static PyObject *sq_item(PyObject *self, Py_ssize_t index) { return checked(plain.sequence.sq_item(self, index)); }

static int sq_ass_item(PyObject *self, Py_ssize_t index, PyObject *value) {
    return checked_status(plain.sequence.sq_ass_item(self, index, value));
}

static int sq_contains(PyObject *self, PyObject *value) {
    return checked_status(plain.sequence.sq_contains(self, value));
}

static PyObject *mp_subscript(PyObject *self, PyObject *key) { return checked(plain.mapping.mp_subscript(self, key)); }

static int mp_ass_subscript(PyObject *self, PyObject *key, PyObject *value) {
    return checked_status(plain.mapping.mp_ass_subscript(self, key, value));
}

static PyObject *compare(PyObject *left, PyObject *right, int operator) {
    return checked(plain.compare(left, right, operator));
}

static PyObject *get_attribute(PyObject *self, void *definition) {
    const PyGetSetDef *attribute = definition;
    return attribute->get(self, attribute->closure);
}

static int set_attribute(PyObject *self, PyObject *value, void *definition) {
    const PyGetSetDef *attribute = definition;
    return checked_status(attribute->set(self, value, attribute->closure));
}

static PyObject *flat_subscript(PyObject *self, PyObject *key) {
    return checked(plain.flat_mapping.mp_subscript(self, key));
}

static int flat_ass_subscript(PyObject *self, PyObject *key, PyObject *value) {
    return checked_status(plain.flat_mapping.mp_ass_subscript(self, key, value));
}

static PyObject *flat_compare(PyObject *left, PyObject *right, int operator) {
    return checked(plain.flat_compare(left, right, operator));
}

static PyObject *flat_next(PyObject *self) { return checked(plain.flat_next(self)); }

// ---- giving

static PyNumberMethods number;
static PySequenceMethods sequence;
static PyMappingMethods mapping, flat_mapping;

#define REPLACE_NUMBER(slot)                                                                                           \
    if (number.slot)                                                                                                   \
        number.slot = slot;
#define REPLACE_SEQUENCE(slot)                                                                                         \
    if (sequence.slot)                                                                                                 \
        sequence.slot = slot;

static bool has_mapping(const PyTypeObject *type) {
    return type->tp_as_mapping && type->tp_as_mapping->mp_subscript && type->tp_as_mapping->mp_ass_subscript &&
           type->tp_richcompare;
}

static bool has_attributes(PyTypeObject *ndarray) {
    for (int i = 0; i < ATTRIBUTES; i++) {
        PyObject *found = PyDict_GetItemString(ndarray->tp_dict, attribute_names[i]);
        if (!found || !Py_IS_TYPE(found, &PyGetSetDescr_Type) || !((PyGetSetDescrObject *)found)->d_getset->set)
            return false;
        attributes[i].descriptor = (PyGetSetDescrObject *)found;
        attributes[i].checked = *(attributes[i].plain = attributes[i].descriptor->d_getset);
        attributes[i].checked.get = get_attribute;
        attributes[i].checked.set = set_attribute;
        attributes[i].checked.closure = attributes[i].plain;
    }
    return true;
}

int memprot_array_slots_learn(PyTypeObject *ndarray, PyTypeObject *flat_iterator) {
    if (plain.array == ndarray && plain.flat == flat_iterator)
        return 0;
    if (plain.array || (ndarray->tp_flags | flat_iterator->tp_flags) & Py_TPFLAGS_HEAPTYPE || !ndarray->tp_as_number ||
        !ndarray->tp_as_sequence || !has_mapping(ndarray) || !has_mapping(flat_iterator) ||
        !flat_iterator->tp_iternext || !has_attributes(ndarray)) {
        PyErr_SetString(PyExc_RuntimeError, "this NumPy's arrays are built in a way that memprot does not know");
        return -1;
    }
    plain.array = ndarray;
    plain.flat = flat_iterator;
    number = plain.number = *(plain.number_methods = ndarray->tp_as_number);
    sequence = plain.sequence = *(plain.sequence_methods = ndarray->tp_as_sequence);
    mapping = plain.mapping = *(plain.mapping_methods = ndarray->tp_as_mapping);
    flat_mapping = plain.flat_mapping = *(plain.flat_mapping_methods = flat_iterator->tp_as_mapping);
    plain.compare = ndarray->tp_richcompare;
    plain.flat_compare = flat_iterator->tp_richcompare;
    plain.flat_next = flat_iterator->tp_iternext;
    // What the array has not its subclass must not have either.
    UNARY(REPLACE_NUMBER)
    BINARY(REPLACE_NUMBER)
    TERNARY(REPLACE_NUMBER)
    REPLACE_NUMBER(nb_bool)
    REPLACE_SEQUENCE(sq_concat)
    REPLACE_SEQUENCE(sq_item)
    REPLACE_SEQUENCE(sq_ass_item)
    REPLACE_SEQUENCE(sq_contains)
    mapping.mp_subscript = mp_subscript;
    mapping.mp_ass_subscript = mp_ass_subscript;
    flat_mapping.mp_subscript = flat_subscript;
    flat_mapping.mp_ass_subscript = flat_ass_subscript;
    return 0;
}

// Whole tables take each other's place, each by one store: other threads use them meanwhile.
#define STORE(place, value) __atomic_store_n(&(place), value, __ATOMIC_RELEASE)

PyGetSetDef memprot_array_attribute(enum memprot_array_attribute which) { return attributes[which].checked; }

void memprot_array_slots_give(PyTypeObject *array) {
    STORE(array->tp_as_number, &number);
    STORE(array->tp_as_sequence, &sequence);
    STORE(array->tp_as_mapping, &mapping);
    STORE(array->tp_richcompare, compare);
}

void memprot_array_slots_give_flat(PyTypeObject *flat_iterator) {
    STORE(flat_iterator->tp_as_mapping, &flat_mapping);
    STORE(flat_iterator->tp_richcompare, flat_compare);
    STORE(flat_iterator->tp_iternext, flat_next);
}

void memprot_array_slots_replace(void) {
    memprot_array_slots_give(plain.array);
    memprot_array_slots_give_flat(plain.flat);
    // Not tp_setattro: object.__setattr__ refuses objects whose type has one of its own.
    for (int i = 0; i < ATTRIBUTES; i++)
        STORE(attributes[i].descriptor->d_getset, &attributes[i].checked);
}

#define TAKE_BACK(place, ours, theirs)                                                                                 \
    do {                                                                                                               \
        if ((place) == (ours))                                                                                         \
            STORE(place, theirs);                                                                                      \
    } while (0)

void memprot_array_slots_take_back(void) {
    if (!plain.array)
        return;
    TAKE_BACK(plain.array->tp_as_number, &number, plain.number_methods);
    TAKE_BACK(plain.array->tp_as_sequence, &sequence, plain.sequence_methods);
    TAKE_BACK(plain.array->tp_as_mapping, &mapping, plain.mapping_methods);
    TAKE_BACK(plain.array->tp_richcompare, compare, plain.compare);
    for (int i = 0; i < ATTRIBUTES; i++)
        TAKE_BACK(attributes[i].descriptor->d_getset, &attributes[i].checked, attributes[i].plain);
    TAKE_BACK(plain.flat->tp_as_mapping, &flat_mapping, plain.flat_mapping_methods);
    TAKE_BACK(plain.flat->tp_richcompare, flat_compare, plain.flat_compare);
    TAKE_BACK(plain.flat->tp_iternext, flat_next, plain.flat_next);
}
