/* Loss functions on logits, one row a sample; K classes. All are numerically stable (log-sum-exp). */
#ifndef ONP_SERVER_NN_LOSS_H
#define ONP_SERVER_NN_LOSS_H

#include <stddef.h>
#include <stdint.h>

/* p (n, K) = softmax(logits (n, K)); p may be logits. */
void loss_softmax(size_t n, size_t classes, const float *logits, float *p);
/* Sum over rows of -log softmax(logits)[label]; if dlogits is given it gets scale * gradient of that sum. */
double loss_cross_entropy(size_t n, size_t classes, const float *logits, const int32_t *labels, float scale,
                          float *dlogits);
/* Sum over rows of -log(1 - softmax(logits)[label]), for leaving the label; dlogits as above. Two classes or more. */
double loss_leave(size_t n, size_t classes, const float *logits, const int32_t *labels, float scale, float *dlogits);
/* Sum over rows of KL(p || softmax(logits)) with p (n, K) given as probabilities; dlogits as above. */
double loss_kl(size_t n, size_t classes, const float *p, const float *logits, float scale, float *dlogits);
/* Index of the largest logit of one row (first on ties). */
size_t loss_argmax(size_t classes, const float *logits);

#endif
