/* Inputs checked, outputs made, work cut: the part of an operator's computation that is not arithmetic. */
#include "operator.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

OrtStatus *fail(const char *format, ...)
{
    char message[320];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return ort->CreateStatus(ORT_INVALID_ARGUMENT, message);
}

static ShapeText describe(const int64_t *dims, size_t rank)
{
    ShapeText shape = {"["};
    for (size_t i = 0; i < rank; i++) {
        const size_t used = strlen(shape.text);
        snprintf(shape.text + used, sizeof shape.text - used, i ? ", %lld" : "%lld", (long long)dims[i]);
    }
    strcat(shape.text, "]");
    return shape;
}

ShapeText describe_shape(const Tensor *tensor) { return describe(tensor->dims, tensor->rank); }

static OrtStatus *wrong_shape(const Kernel *kernel, size_t index, ShapeText expected, const Tensor *got)
{
    return fail("Expected shape %s, got %s - at omni::%s, input %s", expected.text,
                describe(got->dims, got->rank).text, kernel->operator->name, kernel->operator->inputs[index].name);
}

static OrtStatus *read_shape(const Kernel *kernel, const OrtTensorInfo *info, size_t index, Tensor *tensor)
{
    TRY(ort->GetDimensionsCount(info, &tensor->rank));
    if (tensor->rank > MAX_RANK) {
        return fail("Expected at most %d axes, got %zu - at omni::%s, input %s", MAX_RANK, tensor->rank,
                    kernel->operator->name, kernel->operator->inputs[index].name);
    }
    return ort->GetDimensions(info, tensor->dims, tensor->rank);
}

OrtStatus *read_input(const Kernel *kernel, const OrtKernelContext *context, size_t index, Tensor *tensor)
{
    const OrtValue *value = NULL;
    size_t count = 0;
    *tensor = (Tensor){0};
    TRY(ort->KernelContext_GetInputCount(context, &count));
    if (index < count) {
        TRY(ort->KernelContext_GetInput(context, index, &value));
    }
    if (value == NULL) {
        return NULL;
    }
    tensor->given = 1;
    OrtTensorInfo *info = NULL;
    TRY(ort->GetTensorTypeAndShape(value, &info));
    OrtStatus *status = read_shape(kernel, info, index, tensor);
    ort->ReleaseTensorTypeAndShapeInfo(info);
    TRY(status);
    /* ORT declares no constant access; nothing is written through an input's pointer. */
    return ort->GetTensorMutableData((OrtValue *)value, &tensor->data);
}

OrtStatus *read_signal(const Kernel *kernel, const OrtKernelContext *context, Tensor *tensor, Signal *signal)
{
    TRY(read_input(kernel, context, 0, tensor));
    if (tensor->rank != 3) {
        return fail("Expected rank 3 (%s), got shape %s - at omni::%s, input %s",
                    kernel->channels_last ? "batch, time, channels" : "batch, channels, time",
                    describe(tensor->dims, tensor->rank).text, kernel->operator->name,
                    kernel->operator->inputs[0].name);
    }
    signal->batch = (size_t)tensor->dims[0];
    signal->channels = (size_t)tensor->dims[kernel->channels_last ? 2 : 1];
    signal->time = (size_t)tensor->dims[kernel->channels_last ? 1 : 2];
    return NULL;
}

OrtStatus *read_per_channel(const Kernel *kernel, const OrtKernelContext *context, size_t index, size_t channels,
                            size_t columns, void **data)
{
    const int64_t expected[2] = {(int64_t)channels, (int64_t)columns};
    return read_shaped(kernel, context, index, expected, columns > 1 ? 2 : 1, data);
}

OrtStatus *read_shaped(const Kernel *kernel, const OrtKernelContext *context, size_t index, const int64_t *dims,
                       size_t rank, void **data)
{
    Tensor tensor;
    TRY(read_input(kernel, context, index, &tensor));
    *data = tensor.data;
    if (!tensor.given && kernel->operator->inputs[index].optional) {
        return NULL;
    }
    if (tensor.rank != rank || memcmp(tensor.dims, dims, rank * sizeof dims[0]) != 0) {
        return wrong_shape(kernel, index, describe(dims, rank), &tensor);
    }
    return NULL;
}

OrtStatus *read_scalar(const Kernel *kernel, const OrtKernelContext *context, size_t index, void *value, size_t size)
{
    Tensor tensor;
    TRY(read_input(kernel, context, index, &tensor));
    if (tensor.rank > 1 || (tensor.rank == 1 && tensor.dims[0] != 1)) {
        return wrong_shape(kernel, index, describe(NULL, 0), &tensor);
    }
    memcpy(value, tensor.data, size);
    return NULL;
}

OrtStatus *read_like(const Kernel *kernel, const OrtKernelContext *context, size_t index, const Tensor *like,
                     void **data)
{
    Tensor tensor;
    TRY(read_input(kernel, context, index, &tensor));
    if (tensor.rank != like->rank || memcmp(tensor.dims, like->dims, like->rank * sizeof like->dims[0]) != 0) {
        return wrong_shape(kernel, index, describe(like->dims, like->rank), &tensor);
    }
    *data = tensor.data;
    return NULL;
}

OrtStatus *make_output(OrtKernelContext *context, size_t index, const int64_t *dims, size_t rank, void **data)
{
    OrtValue *value = NULL;
    size_t count = 0;
    *data = NULL;
    TRY(ort->KernelContext_GetOutputCount(context, &count));
    if (index < count) {
        TRY(ort->KernelContext_GetOutput(context, index, dims, rank, &value));
    }
    return value == NULL ? NULL : ort->GetTensorMutableData(value, data);
}

Span cut(size_t count)
{
    enum { SMALLEST = 1 << 13, LARGEST = 1 << 15, LINE = 64, PIECES = 16 };
    size_t piece = (count / PIECES + LINE - 1) / LINE * LINE;
    piece = piece < SMALLEST ? SMALLEST : piece > LARGEST ? LARGEST : piece;
    return (Span){.count = count, .piece = piece};
}

Span cut_rows(Span span, size_t size)
{
    const size_t rows = span.piece / size;
    return (Span){.count = span.count / size, .piece = rows == 0 ? 1 : rows};
}

OrtStatus *run_pieces(OrtKernelContext *context, Piece piece, void *user, Span span)
{
    const size_t pieces = (span.count + span.piece - 1) / span.piece;
    if (pieces <= 1) {
        if (pieces == 1) {
            piece(user, 0);
        }
        return NULL;
    }
    return ort->KernelContext_ParallelFor(context, piece, pieces, pieces, user);
}
