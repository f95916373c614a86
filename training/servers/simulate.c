/* Servers in simulated time: what becomes of requests that arrive at given times, or that a number of users send one
 * after the other. One server is an array of numbers (see `server.py`, which names them); times are seconds.
 *
 * Four engines: a queue before workers, batches, processor sharing, and streams in a continuous batch. Around each of
 * them: pauses, drift, a rate limiter, one process before them all, admission. No state outlives a call.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    ENGINE, WORKERS, SERVICE, MEAN, SHAPE, RATIO, DISPATCH, LOCKED, PAUSE_EVERY, PAUSE, PAUSE_REGULAR, DRIFT, DRIFT_TIME,
    LIMIT_RATE, LIMIT_BURST, ADMIT, HITS, HIT_COST, HITS_AFTER, BATCH, DELAY, FIXED, ITEM, GROWTH, PADDING, SLOTS,
    CONTENTION, TOKENS, TOKENS_SPREAD, STEP, STEP_ITEM, PREFILL, PREFILL_SPREAD, OVERHEAD, JITTER, SERVED_BEFORE,
    FRONT, TICK, STRAIN, WAKE, WAKE_AFTER, NUMBERS
};
enum { QUEUE, BATCHES, SHARING, STREAMS };
#define MAX_WORKERS 32
#define MAX_SLOTS 256
#define RING 1024
#define REFUSED_S 0.001
#define NEVER 1e300

typedef struct { uint64_t s[2]; double spare; int has_spare; } Random;

static uint64_t next64(Random *r) { /* xoroshiro128+ (Blackman and Vigna, 2018) */
    uint64_t a = r->s[0], b = r->s[1], sum = a + b;
    b ^= a;
    r->s[0] = ((a << 24) | (a >> 40)) ^ b ^ (b << 16);
    r->s[1] = (b << 37) | (b >> 27);
    return sum;
}
static double uniform(Random *r) { return ((next64(r) >> 11) + 0.5) * (1.0 / 9007199254740992.0); }
static double exponential(Random *r) { return -log(uniform(r)); }
static double normal(Random *r) {
    if (r->has_spare) { r->has_spare = 0; return r->spare; }
    double radius = sqrt(-2 * log(uniform(r))), angle = 6.283185307179586 * uniform(r);
    r->spare = radius * sin(angle);
    r->has_spare = 1;
    return radius * cos(angle);
}
static void seed_random(Random *r, uint64_t seed) {
    for (int i = 0; i < 2; i++) { /* splitmix64 */
        uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        r->s[i] = z ^ (z >> 31);
    }
    r->has_spare = 0;
}

typedef struct {
    const double *p;
    Random random;
    int n;                                             /* room for so many requests */
    double *arrived, *done, *first, *between;          /* per request; done and first are moments until the end */
    unsigned char *failed;
    double *work;
    int *queue, head, tail;                            /* waiting requests */
    double *pauses; int pause_count, pause_base, pause_room;
    double drift, drift_at, tokens_left, tokens_at, served;
    double free_at[MAX_WORKERS]; int sizes[MAX_WORKERS];
    double rings[MAX_WORKERS][RING]; int ring_head[MAX_WORKERS], ring_tail[MAX_WORKERS];
    double lock_free, front_free; int turn;
    double now, virtual_now; int active;               /* sharing and streams */
    double keys[MAX_SLOTS]; int ids[MAX_SLOTS]; int left[MAX_SLOTS]; double total[MAX_SLOTS];
    double step_end; int admitted;
    int *ended, ended_count;                           /* requests whose end is known and was not yet told */
} Sim;

static double service(Sim *s) {
    Random *r = &s->random;
    double shape = s->p[SHAPE], ratio = s->p[RATIO];
    switch ((int)s->p[SERVICE]) {
        case 0: return 1.0;
        case 1: return exponential(r);
        case 2: return exp(shape * normal(r) - 0.5 * shape * shape);
        case 3: return (uniform(r) < shape ? ratio : 1.0) / (1 + shape * (ratio - 1));
        case 4: { double sum = 0; int k = (int)shape; for (int i = 0; i < k; i++) sum += exponential(r); return sum / k; }
        case 5: return (1 - shape) + shape * exponential(r);
        default: return 1 - shape + 2 * shape * uniform(r);
    }
}

static double speed(Sim *s, double at) { /* how much longer everything takes now: an Ornstein-Uhlenbeck process */
    if (s->p[DRIFT] <= 0) return 1;
    double passed = at - s->drift_at;
    if (passed > 0.02 * s->p[DRIFT_TIME]) {
        double keep = exp(-passed / s->p[DRIFT_TIME]);
        s->drift = s->drift * keep + s->p[DRIFT] * sqrt(1 - keep * keep) * normal(&s->random);
        s->drift_at = at;
    }
    return exp(s->drift);
}

static void more_pauses(Sim *s, double until) {
    double every = s->p[PAUSE_EVERY];
    while (!s->pause_count || s->pauses[2 * s->pause_count - 1] <= until) {
        double before = s->pause_count ? s->pauses[2 * s->pause_count - 1] : -every * uniform(&s->random);
        double gap = s->p[PAUSE_REGULAR] > 0.5 ? every * (0.9 + 0.2 * uniform(&s->random)) : every * exponential(&s->random);
        if (s->pause_count == s->pause_room) {
            s->pause_room = s->pause_room ? 2 * s->pause_room : 64;
            s->pauses = realloc(s->pauses, sizeof(double) * 2 * s->pause_room);
        }
        double length = s->p[PAUSE] * (0.8 + 0.4 * uniform(&s->random));
        s->pauses[2 * s->pause_count] = before + gap;
        s->pauses[2 * s->pause_count + 1] = before + gap + length;
        s->pause_count++;
    }
}

static double finish(Sim *s, double at, double work) { /* when work that begins now ends, pauses included */
    if (s->p[PAUSE_EVERY] <= 0) return at + work;
    for (int i = s->pause_base;; i++) {
        more_pauses(s, at + work);
        if (i >= s->pause_count) return at + work;
        double begin = s->pauses[2 * i], end = s->pauses[2 * i + 1];
        if (end <= at) continue;
        if (begin <= at) { at = end; continue; }
        if (at + work <= begin) return at + work;
        work -= begin - at;
        at = end;
    }
}

static double awake(Sim *s, double from, double to) { /* time between two moments without pauses */
    if (s->p[PAUSE_EVERY] <= 0) return to - from;
    double sum = to - from;
    more_pauses(s, to);
    for (int i = s->pause_base; i < s->pause_count && s->pauses[2 * i] < to; i++) {
        double begin = fmax(from, s->pauses[2 * i]), end = fmin(to, s->pauses[2 * i + 1]);
        if (end > begin) sum -= end - begin;
    }
    return sum;
}

static void passed(Sim *s, double at) { /* forget the pauses that are over for everyone */
    while (s->pause_base < s->pause_count && s->pauses[2 * s->pause_base + 1] <= at) s->pause_base++;
}

static void end(Sim *s, int id, double at) {
    s->done[id] = at;
    s->ended[s->ended_count++] = id;
}

static int inside(Sim *s, double at);

static double work_of(Sim *s, double at) {
    double work = service(s) * speed(s, at);
    /* the more are inside, the longer each takes, as where memory runs short */
    if (s->p[STRAIN] > 0) work *= 1 + s->p[STRAIN] * fmin(inside(s, at) / s->p[WORKERS], 8);
    if (s->p[HITS] > 0) {
        double share = s->p[HITS] * (1 - exp(-s->served / fmax(1, s->p[HITS_AFTER])));
        if (uniform(&s->random) < share) work *= s->p[HIT_COST];
    }
    s->served += 1;
    return work;
}

static int outstanding(Sim *s, int worker, double at) {
    while (s->ring_head[worker] < s->ring_tail[worker] && s->rings[worker][s->ring_head[worker] % RING] <= at)
        s->ring_head[worker]++;
    return s->ring_tail[worker] - s->ring_head[worker];
}

static int inside(Sim *s, double at) {
    int workers = (int)s->p[WORKERS], sum = s->tail - s->head;
    switch ((int)s->p[ENGINE]) {
        case QUEUE: sum = 0; for (int i = 0; i < workers; i++) sum += outstanding(s, i, at); return sum;
        case BATCHES: for (int i = 0; i < workers; i++) if (s->free_at[i] > at) sum += s->sizes[i]; return sum;
        default: return sum + s->active;
    }
}

static int route(Sim *s, double at) {
    int workers = (int)s->p[WORKERS], best = 0;
    if (workers == 1) return 0;
    switch ((int)s->p[DISPATCH]) {
        case 1: return (int)(uniform(&s->random) * workers) % workers;
        case 2: return s->turn++ % workers;
        case 3: {
            int least = 1 << 30, begin = s->turn++ % workers;
            for (int k = 0; k < workers; k++) {
                int i = (begin + k) % workers, count = outstanding(s, i, at);
                if (count < least) least = count, best = i;
            }
            return best;
        }
        case 4: {
            int a = (int)(uniform(&s->random) * workers) % workers, b = (int)(uniform(&s->random) * workers) % workers;
            return outstanding(s, a, at) <= outstanding(s, b, at) ? a : b;
        }
        default:
            for (int i = 1; i < workers; i++) if (s->free_at[i] < s->free_at[best]) best = i;
            return best;
    }
}

static void serve(Sim *s, int id, double at) { /* the queue: the end is known at once */
    int worker = route(s, at);
    double work = s->p[MEAN] * work_of(s, at), begin = fmax(at, s->free_at[worker]);
    if (s->p[WAKE] > 0 && at > s->free_at[worker] + s->p[WAKE_AFTER]) work += s->p[WAKE]; /* it had gone to sleep */
    double locked = s->p[LOCKED] * work, stop = finish(s, begin, work - locked);
    if (locked > 0) {
        stop = finish(s, fmax(stop, s->lock_free), locked);
        s->lock_free = stop;
    }
    s->free_at[worker] = stop;
    outstanding(s, worker, at);
    if (s->ring_tail[worker] - s->ring_head[worker] < RING) s->rings[worker][s->ring_tail[worker]++ % RING] = stop;
    end(s, id, stop);
}

/* batches */
static double batch_begin(Sim *s, int *which) {
    if (s->head == s->tail) return NEVER;
    int workers = (int)s->p[WORKERS], best = 0, size = (int)s->p[BATCH];
    for (int i = 1; i < workers; i++) if (s->free_at[i] < s->free_at[best]) best = i;
    *which = best;
    double ready = s->tail - s->head >= size ? s->now : s->arrived[s->queue[s->head]] + s->p[DELAY];
    double begin = fmax(s->now, fmax(s->free_at[best], ready)), tick = s->p[TICK];
    return tick > 0 ? fmax(begin, ceil(begin / tick) * tick) : begin; /* a loop that looks for work now and then */
}
static void batch_step(Sim *s) {
    int worker, size = 0, most = (int)s->p[BATCH];
    double at = batch_begin(s, &worker), longest = 0, sum = 0;
    s->now = at;
    int begin = s->head;
    while (s->head < s->tail && size < most) {
        double work = s->work[s->queue[s->head++]];
        longest = fmax(longest, work);
        sum += work;
        size++;
    }
    double padded = s->p[PADDING] * longest * size + (1 - s->p[PADDING]) * sum;
    double work = s->p[FIXED] * speed(s, at) + s->p[ITEM] * padded * pow(size, s->p[GROWTH] - 1);
    double stop = finish(s, at, work);
    s->free_at[worker] = stop;
    s->sizes[worker] = size;
    for (int i = begin; i < s->head; i++) end(s, s->queue[i], stop);
}

/* processor sharing: a heap of the moments in virtual time at which the active end */
static double rate_of(Sim *s) {
    double cores = s->p[WORKERS], n = s->active;
    double busy = fmin(n, cores), extra = fmax(0, n - cores) / cores;
    double serial = s->p[LOCKED]; /* Gunther's universal scalability law: a serial share of the work */
    return busy / (1 + serial * (busy - 1)) / (1 + s->p[CONTENTION] * fmin(extra, 8));
}
static void heap_swap(Sim *s, int a, int b) {
    double key = s->keys[a]; s->keys[a] = s->keys[b]; s->keys[b] = key;
    int id = s->ids[a]; s->ids[a] = s->ids[b]; s->ids[b] = id;
}
static void share_in(Sim *s, int id) {
    int i = s->active++;
    s->keys[i] = s->virtual_now + s->work[id];
    s->ids[i] = id;
    for (; i && s->keys[i] < s->keys[(i - 1) / 2]; i = (i - 1) / 2) heap_swap(s, i, (i - 1) / 2);
}
static void share_out(Sim *s) {
    heap_swap(s, 0, --s->active);
    for (int i = 0;;) {
        int child = 2 * i + 1;
        if (child >= s->active) break;
        if (child + 1 < s->active && s->keys[child + 1] < s->keys[child]) child++;
        if (s->keys[i] <= s->keys[child]) break;
        heap_swap(s, i, child);
        i = child;
    }
}
static void share_until(Sim *s, double at) {
    if (s->active) s->virtual_now += awake(s, s->now, at) * rate_of(s) / s->active;
    s->now = at;
}
static double share_next(Sim *s) {
    if (!s->active) return NEVER;
    return finish(s, s->now, fmax(0, s->keys[0] - s->virtual_now) * s->active / rate_of(s));
}
static void share_step(Sim *s) {
    double at = share_next(s);
    s->now = at;
    s->virtual_now = s->keys[0];
    int id = s->ids[0];
    share_out(s);
    end(s, id, at);
    if (s->head < s->tail) share_in(s, s->queue[s->head++]);
    if (!s->active) s->virtual_now = 0;
}

/* streams: each step gives every active stream a token; newcomers are prefilled in a step of the others */
static void stream_begin(Sim *s, double at) {
    double work = s->p[STEP];
    int before = s->active, most = (int)s->p[SLOTS];
    while (s->head < s->tail && s->active < most && (!s->p[BATCH] || s->active - before < (int)s->p[BATCH])) {
        int id = s->queue[s->head++], i = s->active++;
        double spread = s->p[TOKENS_SPREAD];
        double tokens = s->p[TOKENS] * exp(spread * normal(&s->random) - 0.5 * spread * spread);
        s->ids[i] = id;
        s->left[i] = (int)fmax(2, fmin(2000, tokens + 0.5));
        s->total[i] = s->left[i];
        spread = s->p[PREFILL_SPREAD];
        work += s->p[PREFILL] * exp(spread * normal(&s->random) - 0.5 * spread * spread);
    }
    work += s->p[STEP_ITEM] * s->active;
    s->step_end = finish(s, at, work * speed(s, at));
}
static void stream_step(Sim *s) {
    double at = s->step_end;
    s->now = at;
    for (int i = 0; i < s->active;) {
        int id = s->ids[i];
        if (s->left[i] == (int)s->total[i]) s->first[id] = at;
        if (--s->left[i]) { i++; continue; }
        s->between[id] = (at - s->first[id]) / (s->total[i] - 1);
        end(s, id, at);
        s->active--;
        s->ids[i] = s->ids[s->active];
        s->left[i] = s->left[s->active];
        s->total[i] = s->total[s->active];
    }
    if (s->active || s->head < s->tail) stream_begin(s, at);
    else s->step_end = NEVER;
}

static double next_event(Sim *s) {
    int which;
    switch ((int)s->p[ENGINE]) {
        case BATCHES: return batch_begin(s, &which);
        case SHARING: return share_next(s);
        case STREAMS: return s->step_end;
        default: return NEVER;
    }
}
static void step(Sim *s) {
    switch ((int)s->p[ENGINE]) {
        case BATCHES: batch_step(s); break;
        case SHARING: share_step(s); break;
        case STREAMS: stream_step(s); break;
    }
}

static double limited(Sim *s, double at) { /* a token bucket that makes requests wait */
    double rate = s->p[LIMIT_RATE];
    if (rate <= 0) return at;
    double from = fmax(at, s->tokens_at);
    s->tokens_left = fmin(s->p[LIMIT_BURST], s->tokens_left + (from - s->tokens_at) * rate);
    s->tokens_at = from;
    if (s->tokens_left < 1) {
        from += (1 - s->tokens_left) / rate;
        s->tokens_left = 1;
        s->tokens_at = from;
    }
    s->tokens_left -= 1;
    return from;
}

static double fronted(Sim *s, double at) { /* one process that reads every request before the others see it */
    if (s->p[FRONT] <= 0) return at;
    s->front_free = fmax(at, s->front_free) + s->p[FRONT] * (0.7 + 0.6 * uniform(&s->random));
    return s->front_free;
}

static void arrive(Sim *s, int id, double at) { /* `at` is not before the last event */
    passed(s, (int)s->p[ENGINE] == QUEUE ? at : fmin(at, s->now));
    if (s->p[ADMIT] > 0 && inside(s, at) >= (int)s->p[ADMIT]) {
        s->failed[id] = 1;
        end(s, id, at + REFUSED_S);
        return;
    }
    switch ((int)s->p[ENGINE]) {
        case QUEUE: serve(s, id, at); return;
        case BATCHES:
            s->now = at;
            s->arrived[id] = at;
            s->work[id] = work_of(s, at);
            s->queue[s->tail++] = id;
            return;
        case SHARING:
            share_until(s, at);
            s->work[id] = s->p[MEAN] * work_of(s, at);
            if (s->active < (int)s->p[SLOTS]) share_in(s, id);
            else s->queue[s->tail++] = id;
            return;
        default:
            s->now = at;
            s->queue[s->tail++] = id;
            if (s->step_end == NEVER) stream_begin(s, at);
    }
}

static Sim *begin(const double *p, uint64_t seed, int n, double *done, double *first, double *between, unsigned char *failed) {
    Sim *s = calloc(1, sizeof(Sim));
    s->p = p;
    seed_random(&s->random, seed);
    s->n = n;
    s->done = done; s->first = first; s->between = between; s->failed = failed;
    s->arrived = malloc(sizeof(double) * n);
    s->work = malloc(sizeof(double) * n);
    s->queue = malloc(sizeof(int) * n);
    s->ended = malloc(sizeof(int) * n);
    s->step_end = NEVER;
    s->tokens_left = p[LIMIT_BURST];
    s->served = p[SERVED_BEFORE];
    s->drift = p[DRIFT] * normal(&s->random);
    memset(failed, 0, n);
    return s;
}
static void over(Sim *s) {
    free(s->arrived); free(s->work); free(s->queue); free(s->ended); free(s->pauses); free(s);
}
static double answered(Sim *s, int id) { /* the network's part, on top */
    double extra = s->p[OVERHEAD];
    if (s->p[JITTER] > 0) extra += s->p[JITTER] * exponential(&s->random);
    return s->done[id] + extra;
}

/* Requests that arrive at `arrivals` (ascending). Fills latencies, times to the first token, mean times between tokens. */
void run_open(const double *p, uint64_t seed, const double *arrivals, int n, double *latency, double *first,
              double *between, unsigned char *failed) {
    Sim *s = begin(p, seed, n, latency, first, between, failed);
    for (int i = 0; i < n; i++) {
        double at = fronted(s, limited(s, arrivals[i]));
        while (next_event(s) <= at) step(s);
        arrive(s, i, at);
    }
    while (next_event(s) < NEVER) step(s);
    for (int i = 0; i < n; i++) {
        latency[i] = answered(s, i) - arrivals[i];
        first[i] -= arrivals[i];
    }
    over(s);
}

/* `users` send one request after the other, until `duration` is over or `n` were sent; a refused one is sent again after
 * `pause`. Returns how many were sent; fills when, and their latencies. */
int run_closed(const double *p, uint64_t seed, int users, double duration, double pause, int n, double *sent,
               double *latency, double *first, double *between, unsigned char *failed) {
    Sim *s = begin(p, seed, n, latency, first, between, failed);
    double *heap = malloc(sizeof(double) * (users + 1));
    int waiting = 0, count = 0, told = 0;
    for (int u = 0; u < users; u++) heap[waiting++] = 0.0;
    while (count < n) {
        double user = waiting ? heap[0] : NEVER, event = next_event(s);
        if (event < NEVER && event <= user) step(s);
        else if (user >= duration || user == NEVER) break;
        else {
            double last = heap[--waiting]; /* sift down */
            int i = 0;
            for (;;) {
                int child = 2 * i + 1;
                if (child >= waiting) break;
                if (child + 1 < waiting && heap[child + 1] < heap[child]) child++;
                if (last <= heap[child]) break;
                heap[i] = heap[child];
                i = child;
            }
            heap[i] = last;
            sent[count] = user;
            double at = fronted(s, limited(s, user));
            while (next_event(s) <= at) step(s);
            arrive(s, count++, at);
        }
        for (; told < s->ended_count; told++) {
            int id = s->ended[told];
            double at = answered(s, id) + (failed[id] ? pause : 0);
            int i = waiting++;
            for (; i && at < heap[(i - 1) / 2]; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
            heap[i] = at;
            latency[id] = at - (failed[id] ? pause : 0) - sent[id];
            first[id] -= sent[id];
        }
    }
    /* what did not end in the time that was simulated has no end yet */
    unsigned char *known = calloc(n, 1);
    for (int k = 0; k < told; k++) known[s->ended[k]] = 1;
    for (int i = 0; i < count; i++) if (!known[i]) latency[i] = INFINITY;
    free(known);
    free(heap);
    over(s);
    return count;
}

/* Of how many numbers a server is. */
int numbers(void) { return NUMBERS; }
