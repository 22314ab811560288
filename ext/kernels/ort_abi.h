/* The part of ONNX Runtime's C ABI that these operators use, in our own words.
 *
 * `OrtApi` is an append-only table of function pointers: a slot never moves once it is released. We name the slots
 * that we call and leave the others as gaps; the assertions below tie each name to its slot. `OrtCustomOp` is the
 * table that an operator hands to the runtime, as of version 18 (the first that lets an output take an input's place).
 */
#ifndef OMNI_ORT_ABI_H
#define OMNI_ORT_ABI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define ORT_CALL __stdcall
#else
#define ORT_CALL
#endif

enum { ORT_API_VERSION = 18 };
enum { ORT_FAIL = 1, ORT_INVALID_ARGUMENT = 2 };
enum { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT8 = 3, ORT_INT32 = 6 };
enum { ORT_REQUIRED = 0, ORT_OPTIONAL = 1 };
enum { ORT_ATTRIBUTE_INT = 1 };

typedef struct OrtStatus OrtStatus; /* NULL is success; ORT owns what we return to it */
typedef struct OrtValue OrtValue;
typedef struct OrtTensorInfo OrtTensorInfo;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtShapeContext OrtShapeContext;
typedef struct OrtAttribute OrtAttribute;
typedef struct OrtCustomOp OrtCustomOp;

typedef void(ORT_CALL *OrtPiece)(void *user, size_t index);

typedef struct OrtApi {
    OrtStatus *(ORT_CALL *CreateStatus)(int code, const char *message);
    void *gap_1[25];
    OrtStatus *(ORT_CALL *CreateCustomOpDomain)(const char *name, OrtCustomOpDomain **domain);
    OrtStatus *(ORT_CALL *CustomOpDomain_Add)(OrtCustomOpDomain *domain, const OrtCustomOp *op);
    OrtStatus *(ORT_CALL *AddCustomOpDomain)(OrtSessionOptions *options, OrtCustomOpDomain *domain);
    void *gap_29[22];
    OrtStatus *(ORT_CALL *GetTensorMutableData)(OrtValue *value, void **data);
    void *gap_52[5];
    OrtStatus *(ORT_CALL *CreateTensorTypeAndShapeInfo)(OrtTensorInfo **info);
    OrtStatus *(ORT_CALL *SetTensorElementType)(OrtTensorInfo *info, int type);
    OrtStatus *(ORT_CALL *SetDimensions)(OrtTensorInfo *info, const int64_t *dims, size_t count);
    OrtStatus *(ORT_CALL *GetTensorElementType)(const OrtTensorInfo *info, int *type);
    OrtStatus *(ORT_CALL *GetDimensionsCount)(const OrtTensorInfo *info, size_t *count);
    OrtStatus *(ORT_CALL *GetDimensions)(const OrtTensorInfo *info, int64_t *dims, size_t count);
    OrtStatus *(ORT_CALL *GetSymbolicDimensions)(const OrtTensorInfo *info, const char **names, size_t count);
    void *gap_64;
    OrtStatus *(ORT_CALL *GetTensorTypeAndShape)(const OrtValue *value, OrtTensorInfo **info);
    void *gap_66[19];
    OrtStatus *(ORT_CALL *KernelInfoGetAttribute_float)(const OrtKernelInfo *info, const char *name, float *out);
    OrtStatus *(ORT_CALL *KernelInfoGetAttribute_int64)(const OrtKernelInfo *info, const char *name, int64_t *out);
    OrtStatus *(ORT_CALL *KernelInfoGetAttribute_string)(const OrtKernelInfo *info, const char *name, char *out,
                                                         size_t *size);
    OrtStatus *(ORT_CALL *KernelContext_GetInputCount)(const OrtKernelContext *context, size_t *count);
    OrtStatus *(ORT_CALL *KernelContext_GetOutputCount)(const OrtKernelContext *context, size_t *count);
    OrtStatus *(ORT_CALL *KernelContext_GetInput)(const OrtKernelContext *context, size_t index, const OrtValue **value);
    OrtStatus *(ORT_CALL *KernelContext_GetOutput)(OrtKernelContext *context, size_t index, const int64_t *dims,
                                                   size_t count, OrtValue **value);
    void *gap_92;
    void(ORT_CALL *ReleaseStatus)(OrtStatus *status);
    void *gap_94[5];
    void(ORT_CALL *ReleaseTensorTypeAndShapeInfo)(OrtTensorInfo *info);
    void *gap_100;
    void(ORT_CALL *ReleaseCustomOpDomain)(OrtCustomOpDomain *domain);
    void *gap_102[165];
    OrtStatus *(ORT_CALL *ShapeInferContext_GetInputCount)(const OrtShapeContext *context, size_t *count);
    OrtStatus *(ORT_CALL *ShapeInferContext_GetInputTypeShape)(const OrtShapeContext *context, size_t index,
                                                               OrtTensorInfo **info);
    OrtStatus *(ORT_CALL *ShapeInferContext_GetAttribute)(const OrtShapeContext *context, const char *name,
                                                          const OrtAttribute **attribute);
    OrtStatus *(ORT_CALL *ShapeInferContext_SetOutputTypeShape)(const OrtShapeContext *context, size_t index,
                                                                const OrtTensorInfo *info);
    OrtStatus *(ORT_CALL *SetSymbolicDimensions)(OrtTensorInfo *info, const char **names, size_t count);
    OrtStatus *(ORT_CALL *ReadOpAttr)(const OrtAttribute *attribute, int type, void *data, size_t size, size_t *written);
    void *gap_273;
    OrtStatus *(ORT_CALL *KernelContext_ParallelFor)(const OrtKernelContext *context, OrtPiece piece, size_t total,
                                                     size_t batches, void *user);
} OrtApi;

#define ORT_SLOT(name, slot) \
    static_assert(offsetof(OrtApi, name) == (slot) * sizeof(void *), #name " stands in slot " #slot)
ORT_SLOT(CreateCustomOpDomain, 26);
ORT_SLOT(GetTensorMutableData, 51);
ORT_SLOT(CreateTensorTypeAndShapeInfo, 57);
ORT_SLOT(GetTensorElementType, 60);
ORT_SLOT(GetSymbolicDimensions, 63);
ORT_SLOT(GetTensorTypeAndShape, 65);
ORT_SLOT(KernelInfoGetAttribute_float, 85);
ORT_SLOT(KernelContext_GetOutput, 91);
ORT_SLOT(ReleaseStatus, 93);
ORT_SLOT(ReleaseTensorTypeAndShapeInfo, 99);
ORT_SLOT(ReleaseCustomOpDomain, 101);
ORT_SLOT(ShapeInferContext_GetInputCount, 267);
ORT_SLOT(ReadOpAttr, 272);
ORT_SLOT(KernelContext_ParallelFor, 274);

typedef struct OrtApiBase {
    const OrtApi *(ORT_CALL *GetApi)(uint32_t version); /* NULL when the runtime is older than `version` */
    const char *(ORT_CALL *GetVersionString)(void);
} OrtApiBase;

struct OrtCustomOp {
    uint32_t version;
    void *CreateKernel; /* replaced by its V2 below, as is KernelCompute */
    const char *(ORT_CALL *GetName)(const OrtCustomOp *op);
    const char *(ORT_CALL *GetExecutionProviderType)(const OrtCustomOp *op);
    int(ORT_CALL *GetInputType)(const OrtCustomOp *op, size_t index);
    size_t(ORT_CALL *GetInputTypeCount)(const OrtCustomOp *op);
    int(ORT_CALL *GetOutputType)(const OrtCustomOp *op, size_t index);
    size_t(ORT_CALL *GetOutputTypeCount)(const OrtCustomOp *op);
    void *KernelCompute;
    void(ORT_CALL *KernelDestroy)(void *kernel);
    int(ORT_CALL *GetInputCharacteristic)(const OrtCustomOp *op, size_t index);
    int(ORT_CALL *GetOutputCharacteristic)(const OrtCustomOp *op, size_t index);
    int(ORT_CALL *GetInputMemoryType)(const OrtCustomOp *op, size_t index);
    int(ORT_CALL *GetVariadicInputMinArity)(const OrtCustomOp *op);
    int(ORT_CALL *GetVariadicInputHomogeneity)(const OrtCustomOp *op);
    int(ORT_CALL *GetVariadicOutputMinArity)(const OrtCustomOp *op);
    int(ORT_CALL *GetVariadicOutputHomogeneity)(const OrtCustomOp *op);
    OrtStatus *(ORT_CALL *CreateKernelV2)(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info,
                                          void **kernel);
    OrtStatus *(ORT_CALL *KernelComputeV2)(void *kernel, OrtKernelContext *context);
    OrtStatus *(ORT_CALL *InferOutputShapeFn)(const OrtCustomOp *op, OrtShapeContext *context);
    int(ORT_CALL *GetStartVersion)(const OrtCustomOp *op);
    int(ORT_CALL *GetEndVersion)(const OrtCustomOp *op);
    size_t(ORT_CALL *GetMayInplace)(int **inputs, int **outputs);
    void(ORT_CALL *ReleaseMayInplace)(int *inputs, int *outputs);
    size_t(ORT_CALL *GetAliasMap)(int **inputs, int **outputs);
    void(ORT_CALL *ReleaseAliasMap)(int *inputs, int *outputs);
};

static_assert(sizeof(void *) != 8 || sizeof(OrtCustomOp) == 208, "OrtCustomOp as of version 18");
static_assert(sizeof(void *) != 8 || offsetof(OrtCustomOp, CreateKernelV2) == 136, "CreateKernelV2 stands at byte 136");
static_assert(sizeof(void *) != 8 || offsetof(OrtCustomOp, GetMayInplace) == 176, "GetMayInplace stands at byte 176");

#endif
