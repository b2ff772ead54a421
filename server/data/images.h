/* Sample sets from a zip of pictures, one folder a class: "class/image.png" or ".jpg". Private to the module. */
#ifndef ONP_SERVER_DATA_IMAGES_H
#define ONP_SERVER_DATA_IMAGES_H

#include "server/data/samples.h"

/* Whether the file at `path` is a zip whose entries are pictures: the first name that is no folder ends so. False for all else. */
bool images_is_archive(const char *path);

/* Reads the pictures as 3 x H x W uint8 (grey ones are spread over the three), in the order of their names; classes are the folders
 * in that order. All must be of one size. Fills count, shape, pixels, labels of *samples; the rest is left alone. Every entry's
 * sizes are checked before its bytes are, and its dimensions before its pixels. Errors name the entry. */
enum status images_load(const char *path, const struct samples_limits *limits, struct samples *samples,
                        struct error *error);

#endif
