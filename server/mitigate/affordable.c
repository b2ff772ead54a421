#include "server/mitigate/affordable.h"

/* A ResNet-18 for 32x32 images has 36 million at a quarter of its width, 140 at half of it, 560 at full width. */
static const double USUAL_MACS = 1e8;

bool is_dear(double macs) {
    return macs >= 2.0 * USUAL_MACS;
}

size_t affordable(double macs, size_t usual, size_t least) {
    const double count = macs > USUAL_MACS ? (double)usual * (USUAL_MACS / macs) : (double)usual;
    const size_t floor = least < usual ? least : usual;
    return count > (double)floor ? (size_t)count : floor;
}
