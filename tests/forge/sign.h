/* What is on the signs: a class is a shape, colours and a glyph; classes share all but one of these with a neighbour, so
 * that a classifier must look at all of them. Geometry by signed distance functions, in sign coordinates: centre 0, radius
 * about 1, y downwards. Pure functions, any thread. */
#ifndef ONP_TESTS_FORGE_SIGN_H
#define ONP_TESTS_FORGE_SIGN_H

#include <stddef.h>

enum { SIGN_CLASSES_MAX = 12 };

enum sign_colour { SIGN_RED, SIGN_BLUE, SIGN_YELLOW, SIGN_WHITE, SIGN_BLACK, SIGN_COLOURS };

/* Colours of one sign, after fading and dirt: (SIGN_COLOURS) of red, green, blue in 0..1. */
struct sign_paint {
    float colour[SIGN_COLOURS][3];
};

/* "limit-2", ...; index below SIGN_CLASSES_MAX. */
const char *sign_name(size_t index);
/* The colours of new signs. */
void sign_fresh_paint(struct sign_paint *paint);
/* Lays the sign over rgb at (u, v). `pixels` is how many pixels of the image one unit covers there: edges are as soft as a
 * pixel is wide. `stroke` scales the width of the glyph's lines. */
void sign_lay(size_t index, const struct sign_paint *paint, float u, float v, float pixels, float stroke, float rgb[3]);
/* Distance to the outline, negative inside. */
float sign_distance(size_t index, float u, float v);

#endif
