// A program that embeds Python: it starts and ends the interpreter several times, and faults in between.
//
// ending_interpreters CODE TIMES [write ADDRESS-FILE]: runs the code each time; the last word makes it write, after the
// interpreter's end, to the address that the code has left in that file.
#include <Python.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    for (int i = 0; i < atoi(argv[2]); i++) {
        PyConfig config;
        PyConfig_InitPythonConfig(&config);
        PyStatus status = PyConfig_SetBytesString(&config, &config.program_name, getenv("EMBEDDED_PYTHON"));
        if (!PyStatus_Exception(status))
            status = Py_InitializeFromConfig(&config);
        PyConfig_Clear(&config);
        if (PyStatus_Exception(status))
            Py_ExitStatusException(status);
        int failed = PyRun_SimpleString(argv[1]);
        int unclean = Py_FinalizeEx();
        printf("ended %d %d\n", failed, unclean);
        fflush(stdout);
    }
    if (argc > 4) {
        FILE *file = fopen(argv[4], "r");
        unsigned long address;
        if (!file || fscanf(file, "%lu", &address) != 1)
            return 3;
        *(volatile char *)address = 1;
        puts("written");
    }
    return 0;
}
