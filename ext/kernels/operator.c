/* An operator as ORT sees it: its ports, its attributes, the life of its kernels. */
#include "operator.h"

#include <stdio.h>
#include <stdlib.h>

static const Operator *as_operator(const OrtCustomOp *op) { return (const Operator *)op; }

const char *ORT_CALL operator_name(const OrtCustomOp *op) { return as_operator(op)->name; }
const char *ORT_CALL operator_provider(const OrtCustomOp *op)
{
    (void)op;
    return NULL; /* the processor's own */
}

int ORT_CALL operator_input_type(const OrtCustomOp *op, size_t index) { return as_operator(op)->inputs[index].type; }
int ORT_CALL operator_output_type(const OrtCustomOp *op, size_t index) { return as_operator(op)->outputs[index].type; }

static size_t count_ports(const Port *ports)
{
    size_t count = 0;
    while (ports[count].name != NULL) {
        count++;
    }
    return count;
}

size_t ORT_CALL operator_input_count(const OrtCustomOp *op) { return count_ports(as_operator(op)->inputs); }
size_t ORT_CALL operator_output_count(const OrtCustomOp *op) { return count_ports(as_operator(op)->outputs); }

int ORT_CALL operator_input_characteristic(const OrtCustomOp *op, size_t index)
{
    return as_operator(op)->inputs[index].optional ? ORT_OPTIONAL : ORT_REQUIRED;
}

int ORT_CALL operator_output_characteristic(const OrtCustomOp *op, size_t index)
{
    return as_operator(op)->outputs[index].optional ? ORT_OPTIONAL : ORT_REQUIRED;
}

int ORT_CALL operator_zero_at(const OrtCustomOp *op, size_t index)
{
    (void)op;
    (void)index;
    return 0;
}

int ORT_CALL operator_zero(const OrtCustomOp *op)
{
    (void)op;
    return 0;
}

int ORT_CALL operator_one(const OrtCustomOp *op)
{
    (void)op;
    return 1;
}

void ORT_CALL operator_keep_pairs(int *inputs, int *outputs)
{
    (void)inputs; /* the pairs are constants of each operator */
    (void)outputs;
}

/* ORT answers an absent attribute and one of another type alike; the second must not pass for the default. */
static int is_of_another_type(const OrtKernelInfo *info, const char *name)
{
    float number;
    size_t size = 0;
    OrtStatus *status = ort->KernelInfoGetAttribute_float(info, name, &number);
    if (status == NULL) {
        return 1;
    }
    ort->ReleaseStatus(status);
    status = ort->KernelInfoGetAttribute_string(info, name, NULL, &size);
    if (status == NULL) {
        return 1;
    }
    ort->ReleaseStatus(status);
    return 0;
}

OrtStatus *read_attribute(const Operator *operator, const OrtKernelInfo *info, const char *name, int64_t lowest,
                          int64_t highest, int64_t *value)
{
    OrtStatus *status = ort->KernelInfoGetAttribute_int64(info, name, value);
    if (status != NULL) {
        ort->ReleaseStatus(status);
        if (is_of_another_type(info, name)) {
            return fail("Expected an integer, got another type - at omni::%s, attribute %s", operator->name, name);
        }
        return NULL;
    }
    if (*value < lowest || *value > highest) {
        return fail("Expected a value from %lld to %lld, got %lld - at omni::%s, attribute %s", (long long)lowest,
                    (long long)highest, (long long)*value, operator->name, name);
    }
    return NULL;
}

static OrtStatus *read_attributes(const Operator *operator, const OrtKernelInfo *info, Kernel *kernel)
{
    enum { LARGEST = 1 << 20 };
    TRY(read_attribute(operator, info, "channels_last", 0, 1, &kernel->channels_last));
    if (operator->shuffles) {
        TRY(read_attribute(operator, info, "stride", 1, LARGEST, &kernel->stride));
        TRY(read_attribute(operator, info, "trim_begin", 0, LARGEST, &kernel->trim_begin));
        TRY(read_attribute(operator, info, "trim_end", 0, LARGEST, &kernel->trim_end));
    }
    return NULL;
}

OrtStatus *ORT_CALL operator_create(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info, void **kernel)
{
    (void)api; /* the one of version ORT_API_VERSION, as is `ort` */
    char problem[128];
    Kernel made = {.operator = as_operator(op), .variant = choose_variant(problem, sizeof problem), .stride = 1};
    if (problem[0] != '\0') {
        return fail("%s", problem);
    }
    TRY(read_attributes(made.operator, info, &made));
    const size_t size = made.operator->kernel_size ? made.operator->kernel_size : sizeof made;
    Kernel *kept = calloc(1, size);
    if (kept == NULL) {
        return fail("Expected %zu bytes of memory, got none - at omni::%s", size, made.operator->name);
    }
    *kept = made;
    OrtStatus *status = made.operator->open == NULL ? NULL : made.operator->open(kept, info);
    if (status != NULL) {
        free(kept);
        return status;
    }
    *kernel = kept;
    return NULL;
}

OrtStatus *ORT_CALL operator_compute(void *kernel, OrtKernelContext *context)
{
    const Kernel *self = kernel;
    return self->operator->compute(self, context);
}

void ORT_CALL operator_destroy(void *kernel)
{
    const Kernel *self = kernel;
    if (self->operator->close != NULL) {
        self->operator->close();
    }
    free(kernel);
}
