// Trees, maps and hash tables of strings, as programs in C++ have them: prints the nanoseconds of processor time.
#include <cstdio>
#include <ctime>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

struct Node {
    std::unique_ptr<Node> left, right;
    std::string name;
};

static unsigned next_number() {
    static unsigned state = 1;
    return state = state * 1664525 + 1013904223;
}

static std::unique_ptr<Node> grow(int depth) {
    auto node = std::make_unique<Node>();
    node->name = std::string(10 + next_number() % 60, 'x');
    if (depth > 0) {
        node->left = grow(depth - 1);
        node->right = grow(depth - 1);
    }
    return node;
}

int main() {
    std::clock_t start = std::clock();
    std::size_t total = 0;
    for (int round = 0; round < 6; round++) {
        auto tree = grow(15);
        total += tree->left->name.size();
        std::map<std::string, std::vector<int>> index;
        for (int i = 0; i < 60000; i++)
            index[std::to_string(next_number() % 20000) + " is a longer key"].push_back(i);
        std::unordered_map<int, std::string> table;
        for (int i = 0; i < 60000; i++)
            table[i * 7919 % 100003] = std::string(i % 50, 'x');
        total += index.size() + table.size();
    }
    std::printf("%.0f\n", double(std::clock() - start) / CLOCKS_PER_SEC * 1e9);
    return total == 0;
}
