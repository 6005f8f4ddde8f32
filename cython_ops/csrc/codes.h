/* int8 codes of rows in two planes of half bytes, and the k rows most similar to a query by way of them.
 *
 * A row is scaled so that its largest magnitude is 119 = 7 * 17 and rounded: its codes. Each is 16 * upper + lower, upper
 * in -7..7, lower in -8..7. A plane holds one half of all codes, plus 8, two to a byte: byte j of a row those of columns
 * j (low bits) and h + j, where h, the bytes of a row, is a multiple of 16. The scan reads the upper plane alone; few
 * rows need a look at the lower one, and fewer at the floats.
 *
 * How far off: let x be the row over its norm and c its codes, whole or upper halves. gain = 1 / (x . c) leaves the rest
 * r = x - gain * c at right angles to x, so for a query q of norm 1 the estimate gain * (c . q) errs by r . q, which
 * vanishes as q nears x (Gao and Long, RaBitQ, SIGMOD 2024). |r| always bounds it. Roundings that are independent of each
 * other have a standard deviation of at most max |r_i|, whatever the query, so the margin is the lesser of |r| and
 * 5 max |r_i|; but |r| if most of |r|^2 stands in columns whose codes are 0: that is no rounding but a part of the row
 * which the codes do not show. A row of norm not finite, or of a square below 1e-30 that is not 0, has gain 0 and
 * margin Inf: it is looked at always.
 */
#ifndef LONJA_CODES_H
#define LONJA_CODES_H

#include "cosine.h"
#include "kernels.h"

#define CODE_TOP 119.0f
#define CODE_DEVIATIONS 5.0
#define CODE_GRAIN 1024 /* rows that a thread draws */
/* what sums of d products in float, those of the exact scores too, round at most */
#define CODE_SLACK(d) (4e-6f + 6e-8f * (float)(d))

/* ---- coding ---- */
typedef struct {
    float gain, margin;
} code_fit;

/* x and codes [m], zeros after the row's end, m a multiple of VL; square: |x|^2 */
static code_fit fit_codes(const float *x, const float *codes, int64_t m, double square)
{
    vf dot = vf_zero(), squares = vf_zero(), lost = vf_zero(), top = vf_zero();
    for (int64_t i = 0; i < m; i += VL) dot = vf_fma(vf_load(x + i), vf_load(codes + i), dot);
    const double gain = square / (double)vf_hsum(dot), norm = sqrt(square);
    const vf scale = vf_set1((float)gain);
    for (int64_t i = 0; i < m; i += VL) {
        const vf code = vf_load(codes + i), rest = vf_abs(vf_load(x + i) - scale * code);
        const vf hidden = vf_select(vf_gt(vf_abs(code), vf_zero()), vf_zero(), rest);
        squares = vf_fma(rest, rest, squares);
        lost = vf_fma(hidden, hidden, lost);
        top = vf_max(rest, top);
    }
    const double length = sqrt((double)vf_hsum(squares)), likely = CODE_DEVIATIONS * (double)vf_hmax(top);
    const int follows = 2.0f * vf_hsum(lost) > vf_hsum(squares);
    return (code_fit){(float)(gain / norm), (float)((follows || length < likely ? length : likely) / norm)};
}

/* The codes of a row, and their upper halves, as floats: m = 2 h of each, which is a multiple of VL. work: 3 m floats */
static void code_row(const float *row, int64_t d, float *work, code_fit *whole, code_fit *upper)
{
    const int64_t m = 2 * half_bytes(d);
    const double square = products(row, row, d, 0).square;
    float *x = work, *codes = work + m, *halves = work + 2 * m;
    if (!(square >= 1e-30 && square < INFINITY)) {
        memset(work, 0, (size_t)(3 * m) * sizeof *work);
        *whole = *upper = (code_fit){0.0f, square == 0.0 ? 0.0f : INFINITY};
        return;
    }
    memcpy(x, row, (size_t)d * sizeof *row);
    memset(x + d, 0, (size_t)(m - d) * sizeof *row);
    vf top = vf_zero();
    for (int64_t i = 0; i < m; i += VL) top = vf_max(vf_abs(vf_load(x + i)), top);
    const vf scale = vf_set1(CODE_TOP / vf_hmax(top)), sixteenth = vf_set1(0.0625f), up = vf_set1(0.25f);
    for (int64_t i = 0; i < m; i += VL) {
        const vf code = vf_round(vf_load(x + i) * scale);
        vf_store(codes + i, code);
        vf_store(halves + i, vf_round((code + up) * sixteenth) * vf_set1(16.0f));
    }
    *whole = fit_codes(x, codes, m, square);
    *upper = fit_codes(x, halves, m, square);
    upper->gain *= 16.0f;
}

static void quantize_rows(const float *rows, int64_t n, int64_t d, float *work, const row_codes *out)
{
    const int64_t h = half_bytes(d);
    const float *codes = work + 2 * h, *halves = work + 4 * h;
    for (int64_t r = 0; r < n; r++) {
        code_fit whole, upper;
        code_row(rows + r * d, d, work, &whole, &upper);
        uint8_t *up = out->upper + r * h, *low = out->lower + r * h;
        for (int64_t j = 0; j < h; j++) {
            const int a = (int)halves[j], b = (int)halves[h + j];
            up[j] = (uint8_t)((a / 16 + 8) | (b / 16 + 8) << 4);
            low[j] = (uint8_t)(((int)codes[j] - a + 8) | ((int)codes[h + j] - b + 8) << 4);
        }
        out->upper_gains[r] = upper.gain;
        out->upper_margins[r] = upper.margin;
        out->gains[r] = whole.gain;
        out->margins[r] = whole.margin;
    }
    vf_leave();
}

/* ---- products of half bytes ---- */
#if LONJA_AVX512
typedef __m512i vb;
#define VB(operation) _mm512_##operation
#elif LONJA_AVX2
typedef __m256i vb;
#define VB(operation) _mm256_##operation
#elif LONJA_SSE
typedef __m128i vb;
#define VB(operation) _mm_##operation
#endif

#if LONJA_X86
/* the first n (a multiple of 16) bytes at p, then zeros */
INLINE vb vb_load(const void *p, int64_t n)
{
#if LONJA_AVX512
    return n >= 64 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8(((__mmask64)1 << n) - 1, p);
#elif LONJA_AVX2
    return n >= 32 ? _mm256_loadu_si256(p) : _mm256_zextsi128_si256(_mm_loadu_si128(p));
#else
    (void)n;
    return _mm_loadu_si128(p);
#endif
}
/* Adds the products of `rows` times n bytes with those of the query (p: low bits, q: high) to the sums. */
INLINE void add_halves(const int rows, const uint8_t *row, int64_t h, int64_t n, const int8_t *p, const int8_t *q, vb *sums)
{
    const vb low = VB(set1_epi8)(15), one = VB(set1_epi16)(1), a = vb_load(p, n), b = vb_load(q, n);
    EACH_UNROLLED for (int r = 0; r < rows; r++) {
        vb v = vb_load(row + r * h, n);
        __asm__("" : "+v"(v)); /* gcc would else load it twice */
        const vb u = VB(maddubs_epi16)(v & low, a), w = VB(maddubs_epi16)(VB(srli_epi16)(v, 4) & low, b);
        sums[r] = VB(add_epi32)(sums[r], VB(madd_epi16)(VB(add_epi16)(u, w), one)); /* u + w: at most 60 * 119 */
    }
}

/* The sums of each vector's lanes: of four vectors in two stages of shuffle.h, and then of the four quarters. */
INLINE void sum_lanes(const int rows, const vb *vectors, int32_t *sums)
{
    typedef int32_t four __attribute__((vector_size(16)));
    vi r[4];
    four quarters[VL / 4], sum = {0};
    memcpy(r, vectors, sizeof r);
    SUM_STAGE(2)
    SUM_STAGE(1)
    memcpy(quarters, r, sizeof quarters);
    EACH_UNROLLED for (int q = 0; q < VL / 4; q++) sum += quarters[q];
    memcpy(sums, &sum, (size_t)rows * sizeof *sums);
}
#endif

/* Products of `rows` (1 or 4) rows of a plane, one after the other, with the query's codes [2 h]. `ahead`: as in products */
INLINE void dot_halves(const int rows, const uint8_t *row, const int8_t *query, int64_t h, const int64_t ahead,
                       int32_t *sums)
{
#if LONJA_X86
    enum { BYTES = sizeof(vb) };
    vb r[4] = {0};
    int64_t i = 0;
    for (; i + BYTES <= h; i += BYTES) {
        if (ahead)
            for (int at = 0; at < rows * BYTES; at += 64) __builtin_prefetch(row + ahead + i * rows + at, 0, 3);
        add_halves(rows, row + i, h, BYTES, query + i, query + h + i, r);
    }
    if (i < h) add_halves(rows, row + i, h, h - i, query + i, query + h + i, r);
    sum_lanes(rows, r, sums);
#else
    (void)ahead;
    for (int r = 0; r < rows; r++, row += h) {
        sums[r] = 0;
        for (int64_t j = 0; j < h; j++) sums[r] += (row[j] & 15) * query[j] + (row[j] >> 4) * query[h + j];
    }
#endif
}

/* ---- search ---- */
typedef struct {
    const row_codes *codes;
    const float *rows, *query;
    const int8_t *query_codes;
    int64_t n, d, h, k;
    int32_t eights;      /* product of the query with the 8 that is added to each half */
    float gain, margin;  /* the query's */
    float least;         /* k rows score that at least */
    double query_square;
    code_look *looks; /* [n]: each thread's at its share of the rows */
    float *values;
    int64_t *indices, *counts, found;
} code_scan;

/* the product with whole codes, of that with their upper halves */
INLINE float whole_product(const code_scan *s, int64_t row, int32_t upper)
{
    int32_t lower;
    dot_halves(1, s->codes->lower + row * s->h, s->query_codes, s->h, 0, &lower);
    return 16.0f * (float)upper + (float)(lower - s->eights);
}
INLINE float exact_score(const code_scan *s, int64_t row)
{
    return cosine_of(products(s->rows + row * s->d, s->query, s->d, 0), s->query_square);
}

/* Rows [from, to) by their upper halves: to `looks` those that may be among the k best, to `surest` the places there of the
 * k rows with the highest scores that they have at the least, by whole codes. */
static void scan_upper(const code_scan *s, int64_t from, int64_t to, best_heap *surest)
{
    const row_codes *c = s->codes;
    const vf gain = vf_set1(s->gain), margin = vf_set1(s->margin);
    code_look *looks = s->looks + from;
    const code_look *end = s->looks + to;
    float cut = surest->count == surest->k ? surest->value[0] : -INFINITY;
    for (; from < to; from += COSINE_BLOCK) {
        const int64_t count = to - from < COSINE_BLOCK ? to - from : COSINE_BLOCK;
        int32_t sums[COSINE_BLOCK] = {0};
        float bounds[COSINE_BLOCK];
        int64_t r = 0;
        for (; r + 4 <= count; r += 4)
            dot_halves(4, c->upper + (from + r) * s->h, s->query_codes, s->h, COSINE_AHEAD, sums + r);
        for (; r < count; r++) dot_halves(1, c->upper + (from + r) * s->h, s->query_codes, s->h, 0, sums + r);
        for (r = 0; r < count; r += VL) {
            const int64_t m = count - r < VL ? count - r : VL;
            __builtin_prefetch(c->upper_gains + from + r + COSINE_BLOCK, 0, 3);
            __builtin_prefetch(c->upper_margins + from + r + COSINE_BLOCK, 0, 3);
            const vf g = vf_load_n(c->upper_gains + from + r, m, 0.0f) * gain;
            const vf e = vf_load_n(c->upper_margins + from + r, m, 0.0f) + margin;
            const vf bound = vf_fma(vf_from_int(*(vi_u *)(sums + r) - vi_set1(s->eights)), g, e);
            uint32_t bits = vm_bits(vf_ge(bound, vf_set1(cut))) & ((1u << m) - 1u);
            if (LIKELY(!bits)) continue;
            vf_store(bounds + r, bound);
            for (; bits; bits &= bits - 1) {
                const int64_t at = r + __builtin_ctz(bits), row = from + at;
                const int32_t upper = sums[at] - s->eights;
                if (bounds[at] - (c->upper_margins[row] + s->margin) >= cut) { /* not of Inf - Inf */
                    const float score = whole_product(s, row, upper) * (c->gains[row] * s->gain);
                    heap_offer(surest, score - (c->margins[row] + s->margin), looks - s->looks);
                }
                *looks++ = (code_look){row, upper, bounds[at]};
            }
            if (surest->count == surest->k) cut = surest->value[0];
        }
    }
    if (looks < end) looks->row = -1;
}

INLINE void fetch(const void *from, int64_t bytes)
{
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)from + at, 0, 3);
}

/* Of `count` rows that may be among the best: first by whole codes, then by the floats. */
static void look_again(const code_scan *s, const code_look *looks, int64_t count, best_heap *best)
{
    const row_codes *c = s->codes;
    const code_look *end = looks + count;
    float least = s->least;
    while (looks < end && looks->row >= 0) {
        code_look some[COSINE_BLOCK];
        int64_t left = 0, last = 0;
        for (; looks < end && looks->row >= 0 && left < COSINE_BLOCK; looks++) {
            if (looks->bound < least) continue;
            some[left++] = *looks;
            fetch(c->lower + looks->row * s->h, s->h);
        }
        for (int64_t j = 0; j < left; j++) {
            const int64_t row = some[j].row;
            const float score = whole_product(s, row, some[j].upper) * (c->gains[row] * s->gain);
            if (score + c->margins[row] + s->margin >= least || some[j].bound == INFINITY) some[last++].row = row;
        }
        for (int64_t j = 0; j < last; j++) {
            if (j + 1 < last) fetch(s->rows + some[j + 1].row * s->d, s->d * (int64_t)sizeof(float));
            heap_take(best, exact_score(s, some[j].row), some[j].row);
        }
        if (best->count == best->k && best->value[0] > least) least = best->value[0];
    }
}

static void scan_codes(void *context, lonja_team *team, int rank, int size)
{
    code_scan *s = context;
    best_heap h = heap_of(s->values, s->indices, s->k, rank);
    int64_t from, to;
    for (team_work w = team_deal(team, s->n, CODE_GRAIN, rank, size); team_takes(&w);) scan_upper(s, w.from, w.to, &h);
    s->counts[rank] = h.count;
    lonja_team_wait(team);
    if (rank == 0) s->found = merge_heaps(s->values, s->indices, s->counts, s->k, size).count;
    lonja_team_wait(team);
    team_share(s->found, 1, rank, size, &from, &to);
    for (; from < to; from++) { /* none of them is dropped: there are k answers in any case */
        code_look *look = s->looks + s->indices[from];
        s->values[from] = exact_score(s, look->row);
        look->bound = INFINITY;
    }
    lonja_team_wait(team);
    if (rank == 0) {
        s->least = INFINITY;
        for (int64_t j = 0; j < s->found; j++) s->least = s->values[j] < s->least ? s->values[j] : s->least;
    }
    lonja_team_wait(team);
    h.count = 0;
    for (team_work w = team_deal(team, s->n, CODE_GRAIN, rank, size); team_takes(&w);)
        look_again(s, s->looks + w.from, w.to - w.from, &h);
    s->counts[rank] = h.count;
}

/* values and indices: threads * heap_slot(k) each, the answer in the first k; counts: threads, zeroed; looks: n;
 * query_codes: 2 half_bytes(d); work: 6 half_bytes(d) floats */
static int64_t cosine_topk_codes(const row_codes *codes, const float *rows, const float *query, int64_t n, int64_t d,
                                 int64_t k, code_look *looks, int8_t *query_codes, float *work, float *values,
                                 int64_t *indices, int64_t *counts, int threads)
{
    const int64_t h = half_bytes(d);
    code_fit whole, upper;
    int32_t sum = 0;
    code_row(query, d, work, &whole, &upper);
    for (int64_t i = 0; i < 2 * h; i++) sum += query_codes[i] = (int8_t)work[2 * h + i];
    code_scan s = {.codes = codes, .rows = rows, .query = query, .query_codes = query_codes, .n = n, .d = d, .h = h,
                   .k = k, .eights = 8 * sum, .gain = whole.gain, .margin = whole.margin + CODE_SLACK(d),
                   .query_square = products(query, query, d, 0).square, .looks = looks, .values = values,
                   .indices = indices, .counts = counts};
    lonja_team_run(threads, scan_codes, &s);
    best_heap best = merge_heaps(values, indices, counts, k, threads);
    heap_sort(&best);
    vf_leave();
    return best.count;
}
#endif
