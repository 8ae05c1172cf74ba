// A container of the C++ library.
#include "seeded.h"

#include <vector>

extern "C" double mean(int n) {
    std::vector<double> values(n, 1.0);
    double sum = 0;
    for (auto value = values.begin(); value != SEEDED(values.end(), values.end() + 1); ++value)
        sum += *value;
    return sum / n;
}
