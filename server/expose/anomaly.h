/* Robust outlier figures over a handful of classes. */
#ifndef ONP_SERVER_EXPOSE_ANOMALY_H
#define ONP_SERVER_EXPOSE_ANOMALY_H

#include <stdbool.h>
#include <stddef.h>

/* Median of count >= 1 values; the array is reordered. */
double anomaly_median(double *values, size_t count);

/* index[i] = (median - value[i]) / (1.4826 MAD), positive for values below the median (Wang et al. 2019, section IV-B; MAD is
 * the median absolute deviation, floored at a tenth of the median, so that classes that are all alike do not make an
 * outlier of a trifle). scratch (count). Returns the median. */
double anomaly_index(const double *values, size_t count, double *scratch, double *index);

#endif
