/* A pool of working memory. Each slot holds a free piece of memory or nothing; whoever needs one takes it out by an
 * atomic exchange, so no two threads have the same, and puts it back into any empty slot. There are never more pieces
 * than threads that worked at once, each as large as the largest need it met. */
#include "conv1d.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { SLOTS = 64, LINE = 64 };

/* Stands in the cache line before the memory that is handed out. */
typedef struct Header {
    size_t floats;
    void *allocated;
} Header;

static _Atomic(Header *) slots[SLOTS];
static atomic_size_t users;

static Header *make(size_t floats)
{
    char *allocated = malloc(floats * sizeof(float) + 2 * LINE);
    if (allocated == NULL) {
        return NULL;
    }
    Header *header = (Header *)(allocated + (LINE - (uintptr_t)allocated % LINE));
    *header = (Header){floats, allocated};
    return header;
}

static void discard(Header *header)
{
    if (header != NULL) {
        free(header->allocated);
    }
}

static void empty_slots(void)
{
    for (size_t i = 0; i < SLOTS; i++) {
        discard(atomic_exchange(&slots[i], NULL));
    }
}

void open_scratch(void) { atomic_fetch_add(&users, 1); }

void close_scratch(void)
{
    if (atomic_fetch_sub(&users, 1) == 1) {
        empty_slots();
    }
}

static void put_back(Header *header)
{
    for (size_t i = 0; i < SLOTS; i++) {
        Header *empty = NULL;
        if (atomic_compare_exchange_strong(&slots[i], &empty, header)) {
            return;
        }
    }
    discard(header);
}

/* Of those that are free the first that is large enough; else a new one, in place of one that was too small. */
float *take_scratch(size_t floats)
{
    Header *small = NULL;
    for (size_t i = 0; i < SLOTS; i++) {
        Header *found = atomic_exchange(&slots[i], NULL);
        if (found != NULL && found->floats >= floats) {
            if (small != NULL) {
                put_back(small);
            }
            return (float *)((char *)found + LINE);
        }
        if (found != NULL && small != NULL) {
            put_back(found);
        } else if (found != NULL) {
            small = found;
        }
    }
    discard(small);
    Header *made = make(floats);
    return made == NULL ? NULL : (float *)((char *)made + LINE);
}

void give_scratch(float *scratch) { put_back((Header *)((char *)scratch - LINE)); }
