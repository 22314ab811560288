/* Output shapes before the first run. ORT lets an output take an input's memory only where it knows, by numbers or by
 * the same symbols, that both are equally large; without these functions nothing would ever run in place. */
#include "operator.h"

#include <stdio.h>
#include <string.h>

enum { SYMBOL_SIZE = 192, PRESENT = 2 };

typedef struct Shape {
    int type; /* of the elements */
    size_t rank;
    int64_t dims[MAX_RANK];
    const char *symbols[MAX_RANK]; /* belong to the info they were read from; "" where a dimension is a number */
} Shape;

static OrtStatus *read_known_shape(const OrtTensorInfo *info, Shape *shape, int *known)
{
    *known = 0;
    TRY(ort->GetTensorElementType(info, &shape->type));
    TRY(ort->GetDimensionsCount(info, &shape->rank));
    if (shape->rank != 3) {
        return NULL; /* the kernel will say so, with the values at hand */
    }
    TRY(ort->GetDimensions(info, shape->dims, shape->rank));
    TRY(ort->GetSymbolicDimensions(info, shape->symbols, shape->rank));
    for (size_t i = 0; i < shape->rank; i++) {
        if (shape->dims[i] < 0 && shape->symbols[i][0] == '\0') {
            return NULL; /* a dimension without a name equals no other */
        }
    }
    *known = 1;
    return NULL;
}

static OrtStatus *set_shape(OrtShapeContext *context, size_t index, int type, Shape *shape)
{
    OrtTensorInfo *info = NULL;
    TRY(ort->CreateTensorTypeAndShapeInfo(&info));
    OrtStatus *status = ort->SetTensorElementType(info, type);
    status = status ? status : ort->SetDimensions(info, shape->dims, shape->rank);
    status = status ? status : ort->SetSymbolicDimensions(info, shape->symbols, shape->rank);
    status = status ? status : ort->ShapeInferContext_SetOutputTypeShape(context, index, info);
    ort->ReleaseTensorTypeAndShapeInfo(info);
    return status;
}

/* ORT has no way to ask whether a node has an optional output, and refuses the shape of one that it has not. */
static void set_optional_shape(OrtShapeContext *context, size_t index, int type, Shape *shape)
{
    if (!refuses_missing_outputs) {
        return;
    }
    OrtStatus *status = set_shape(context, index, type, shape);
    if (status != NULL) {
        ort->ReleaseStatus(status);
    }
}

/* ORT asks the uint8 form of an operator about its int8 form too: bytes out are of the type of the bytes in. */
static OrtStatus *set_outputs(const Operator *operator, OrtShapeContext *context, Shape *shape)
{
    TRY(set_shape(context, 0, shape->type, shape));
    if (operator->outputs[1].name != NULL) {
        set_optional_shape(context, 1, operator->outputs[1].type, shape);
    }
    return NULL;
}

OrtStatus *ORT_CALL infer_same_shape(const OrtCustomOp *op, OrtShapeContext *context)
{
    OrtTensorInfo *info = NULL;
    Shape shape;
    int known = 0;
    TRY(ort->ShapeInferContext_GetInputTypeShape(context, 0, &info));
    TRY(read_known_shape(info, &shape, &known));
    return known ? set_outputs((const Operator *)op, context, &shape) : NULL;
}

static int64_t attribute(const OrtShapeContext *context, const char *name, int64_t fallback)
{
    const OrtAttribute *found = NULL;
    int64_t value = fallback;
    size_t size = 0;
    OrtStatus *status = ort->ShapeInferContext_GetAttribute(context, name, &found);
    if (status == NULL && found != NULL) {
        status = ort->ReadOpAttr(found, ORT_ATTRIBUTE_INT, &value, sizeof value, &size);
    }
    if (status != NULL) {
        ort->ReleaseStatus(status);
        return fallback;
    }
    return value;
}

OrtStatus *ORT_CALL infer_shuffled_shape(const OrtCustomOp *op, OrtShapeContext *context)
{
    OrtTensorInfo *info = NULL;
    Shape shape;
    int known = 0;
    char symbol[SYMBOL_SIZE];
    TRY(ort->ShapeInferContext_GetInputTypeShape(context, 0, &info));
    TRY(read_known_shape(info, &shape, &known));
    const int64_t stride = attribute(context, "stride", 1);
    const int64_t trim = attribute(context, "trim_begin", 0) + attribute(context, "trim_end", 0);
    const int channels_last = attribute(context, "channels_last", 0) != 0;
    const size_t channel_axis = channels_last ? 2 : 1;
    const size_t time_axis = channels_last ? 1 : 2;
    if (!known || stride < 1 || shape.dims[channel_axis] < 0) {
        return NULL;
    }
    shape.dims[channel_axis] /= stride;
    if (shape.dims[time_axis] >= 0) {
        shape.dims[time_axis] = shape.dims[time_axis] * stride - trim;
    } else if (stride != 1 || trim != 0) {
        const int length = snprintf(symbol, sizeof symbol, "(%s)*%lld-%lld", shape.symbols[time_axis],
                                    (long long)stride, (long long)trim);
        if (length < 0 || length >= SYMBOL_SIZE) {
            return NULL;
        }
        shape.symbols[time_axis] = symbol;
    }
    return set_outputs((const Operator *)op, context, &shape);
}

typedef struct Past {
    int given;
    int known; /* whether its length is, by number or by name */
    int64_t length; /* below 0 where it has a name */
    const char *symbol;
} Past;

static size_t index_of(const Port *ports, const char *name)
{
    size_t index = 0;
    while (strcmp(ports[index].name, name) != 0) {
        index++;
    }
    return index;
}

/* An absent optional input has no elements of any type; one that is there may be of any length. */
static Past read_past(const Operator *operator, const OrtShapeContext *context)
{
    Past past = {0};
    OrtTensorInfo *info = NULL;
    Shape shape = {0};
    OrtStatus *status = ort->ShapeInferContext_GetInputTypeShape(context, index_of(operator->inputs, "past"), &info);
    if (status == NULL && info != NULL) {
        status = read_known_shape(info, &shape, &past.known);
        past.given = shape.type == ORT_FLOAT;
    }
    if (status != NULL) {
        ort->ReleaseStatus(status);
        past.known = 0;
    }
    if (past.known) {
        past.length = shape.dims[1];
        past.symbol = shape.symbols[1];
    }
    return past;
}

/* The columns of X, with those before it, less those that are looked back at; 0 where that is not known. */
static int set_columns(Shape *shape, const Past *past, int64_t added, char *symbol)
{
    const char *x = shape->dims[1] >= 0 ? NULL : shape->symbols[1];
    const char *more = past->given && past->length < 0 ? past->symbol : NULL;
    int length = 0;
    if (past->given && past->length >= 0) {
        added += past->length;
    }
    if (x == NULL && more == NULL) {
        shape->dims[1] += added;
        return 1;
    }
    if (x != NULL && more == NULL && added == 0) {
        return 1;
    }
    if (x == NULL) {
        length = snprintf(symbol, SYMBOL_SIZE, "(%s)%+lld", more, (long long)(shape->dims[1] + added));
    } else if (more == NULL) {
        length = snprintf(symbol, SYMBOL_SIZE, "(%s)%+lld", x, (long long)added);
    } else {
        length = snprintf(symbol, SYMBOL_SIZE, "(%s)+(%s)%+lld", x, more, (long long)added);
    }
    shape->dims[1] = -1;
    shape->symbols[1] = symbol;
    return length >= 0 && length < SYMBOL_SIZE;
}

OrtStatus *ORT_CALL infer_convolved_shape(const OrtCustomOp *op, OrtShapeContext *context)
{
    const Operator *operator = (const Operator *)op;
    OrtTensorInfo *info = NULL;
    Shape shape;
    int known = 0;
    char symbol[SYMBOL_SIZE];
    TRY(ort->ShapeInferContext_GetInputTypeShape(context, 0, &info));
    TRY(read_known_shape(info, &shape, &known));
    if (!known) {
        return NULL;
    }
    const int64_t span = (attribute(context, "kernel", 1) - 1) * attribute(context, "dilation", 1);
    const Past past = read_past(operator, context);
    const int64_t pads = attribute(context, "pad_end", 0) + (past.given ? 0 : attribute(context, "pad_begin", 0));
    Shape present = shape;
    present.dims[1] = span;
    present.symbols[1] = "";
    set_optional_shape(context, PRESENT, operator->outputs[PRESENT].type, &present);
    if ((past.given && !past.known) || !set_columns(&shape, &past, pads - span, symbol)) {
        return NULL;
    }
    shape.dims[2] = attribute(context, "out_channels", 1);
    shape.symbols[2] = "";
    for (size_t i = 0; operator->outputs[i].name != NULL; i++) {
        if (!operator->outputs[i].optional) {
            TRY(set_shape(context, i, operator->outputs[i].type, &shape));
        } else if (i != PRESENT) {
            set_optional_shape(context, i, operator->outputs[i].type, &shape);
        }
    }
    return NULL;
}
