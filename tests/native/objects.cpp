// Objects of C++ in each way that they are made and deleted; prints how many of them memprot guards.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

struct alignas(256) Wide {
    char bytes[300];
};

static std::map<int, std::string> global = {{1, "a string that is too long to be kept inside of it"}};

int main() {
    auto size_of = reinterpret_cast<std::size_t (*)(const void *)>(dlsym(RTLD_DEFAULT, "memprot_guard_size"));
    int guarded = 0;
    auto count = [&](const void *block) { guarded += size_of && size_of(block) > 0; };
    int *number = new int(5), *numbers = new int[100], *tried = new (std::nothrow) int(6);
    Wide *wide = new Wide, *wides = new Wide[3];
    count(number), count(numbers), count(tried), count(wide), count(wides);
    if (reinterpret_cast<std::uintptr_t>(wide) % 256 || reinterpret_cast<std::uintptr_t>(wides) % 256)
        return 1;
    ::operator delete(number, sizeof *number);
    delete[] numbers;
    delete tried;
    delete wide;
    delete[] wides;
    std::vector<std::string> words;
    for (int i = 0; i < 1000; i++)
        words.push_back(std::to_string(i) + " is a number with many words behind it");
    auto shared = std::make_shared<std::vector<int>>(1000, 3);
    try {
        throw std::bad_alloc();
    } catch (const std::bad_alloc &) {
        count(words.data());
    }
    try {
        volatile std::size_t huge = PTRDIFF_MAX;
        char *volatile block = new char[huge]; // volatile: or the compiler leaves both out
        delete[] block;
        return 1;
    } catch (const std::bad_alloc &) {
    }
    std::printf("%d\n", guarded);
    return words[999].size() == 41 && global.size() == 1 && (*shared)[999] == 3 ? 0 : 1;
}
