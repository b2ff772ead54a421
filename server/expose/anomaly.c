/* Median, median absolute deviation and the anomaly index. */
#include "server/expose/anomaly.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double MAD_TO_DEVIATION = 1.4826; /* of a normal distribution */
static const double MAD_FLOOR_SHARE = 0.1;

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double anomaly_median(double *values, size_t count) {
    qsort(values, count, sizeof *values, compare);
    return count % 2 == 1 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

double anomaly_index(const double *values, size_t count, double *scratch, double *index) {
    memcpy(scratch, values, count * sizeof *scratch);
    const double median = anomaly_median(scratch, count);
    for (size_t i = 0; i < count; i++) {
        scratch[i] = fabs(values[i] - median);
    }
    const double spread = fmax(anomaly_median(scratch, count), MAD_FLOOR_SHARE * fabs(median)) * MAD_TO_DEVIATION;
    for (size_t i = 0; i < count; i++) {
        index[i] = spread > 0.0 ? (median - values[i]) / spread : 0.0;
    }
    return median;
}
