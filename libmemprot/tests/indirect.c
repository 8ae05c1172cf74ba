// A library, linked without its symbol table, that chooses an implementation when it is loaded.

typedef int function(int);

__attribute__((noipa)) static int chosen(int number) { return number + 1; }

__attribute__((noipa)) static int not_chosen(int number) { return number + 2; }

static function *resolve(void) { return chosen; }

#pragma GCC visibility push(default)
int __increment(int number) __attribute__((ifunc("resolve")));
int increment(int number) __attribute__((ifunc("resolve")));
int increment_again(int number) __attribute__((ifunc("resolve")));

function *const implementations[] = {chosen, not_chosen};
#pragma GCC visibility pop
