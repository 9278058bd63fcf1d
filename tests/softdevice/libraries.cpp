// cuBLAS and cuSOLVER on host memory, through the LAPACK that NumPy brings: the calls that CuPy makes for products,
// factorisations, solves and symmetric eigenproblems in float32 and float64. All is done in the turn of the handle's
// stream. Every matrix is checked against the memory it lies in, workspaces against what was asked for. A handle that was
// left in a mode that rounds factors, or whose scalars lie elsewhere, ends the process.
#include "device.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {
using I = int64_t;
constexpr int R_32F = 0, R_64F = 1;                                 // cudaDataType
constexpr int COMPUTE_32F_FAST_16F = 74, COMPUTE_32F_FAST_TF32 = 77;  // cublasComputeType_t: rounds its factors

constexpr int TF32_MATH = 3, DEVICE_SCALARS = 1;                      // cublasMath_t, cublasPointerMode_t

struct Handle { int pointer_mode = 0, math_mode = 0; void* stream = nullptr; };
Handle* handle_of(void* h) { return static_cast<Handle*>(h); }
// Puts a call into the turn of the handle's stream; a cublasStatus_t or cusolverStatus_t.
template <class F> int later(void* h, const char* what, F call) {
  soft::note(what);
  return soft::enqueue(handle_of(h)->stream, [=]() -> const char* { call(); return nullptr; }) ? 14 : 0;
}
// A scalar where the handle's mode says it is; what is on the device is read when the call's turn comes.
template <class T> struct Scalar {
  const T* place; T value;
  T operator()() const { return place ? *place : value; }
};
template <class T> Scalar<T> scalar(void* h, const void* place) {
  const bool device = soft::is_device_memory(place);
  if (device != (handle_of(h)->pointer_mode == DEVICE_SCALARS))
    soft::give_up("cuBLAS", device ? "a scalar of the device, in host pointer mode" : "a scalar of the host, in device pointer mode");
  return device ? Scalar<T>{static_cast<const T*>(place), 0} : Scalar<T>{nullptr, *static_cast<const T*>(place)};
}
void must_be_exact(void* h, size_t itemsize) {
  if (itemsize == 4 && (handle_of(h)->math_mode & 15) == TF32_MATH) soft::give_up("cuBLAS", "the handle is in a mode that rounds factors to TF32");
}
// A workspace must be as large as was asked for; what it held is lost.
template <class T> void work_in(T* work, I count, const char* what) {
  soft::must_be_device_memory(work, sizeof(T) * count, what); std::memset(work, 0xff, sizeof(T) * count);
}
I potrf_work(I n) { return 32 * n; }
I getrf_work(I m, I n) { return m * n; }
I syevd_work(I n) { return 2 * n * n + 6 * n + 1; }                 // LAPACK's

template <class F> F* lapack(const char* routine, size_t itemsize) {
  static void* library = dlopen(std::getenv("SOFTDEVICE_LAPACK"), RTLD_NOW);
  const std::string name = std::string("scipy_") + (itemsize == 4 ? "s" : "d") + routine + "_64_";
  void* found = library ? dlsym(library, name.c_str()) : nullptr;
  if (!found) soft::give_up(name.c_str(), "SOFTDEVICE_LAPACK does not have it");
  return reinterpret_cast<F*>(found);
}
template <class T> void check(const T* A, I rows, I columns, I ld, const char* what) {
  if (ld < std::max<I>(1, rows)) soft::give_up(what, "the leading dimension is smaller than the rows");
  if (rows && columns) soft::must_be_device_memory(A, sizeof(T) * ((columns - 1) * ld + rows), what);
}
template <class T>
void gemm(int ta, int tb, I m, I n, I k, T alpha, const T* A, I lda, const T* B, I ldb, T beta, T* C, I ldc) {
  static auto* f = lapack<void(const char*, const char*, I*, I*, I*, T*, const T*, I*, const T*, I*, T*, T*, I*, size_t, size_t)>("gemm", sizeof(T));
  check(A, ta ? k : m, ta ? m : k, lda, "gemm: A"); check(B, tb ? n : k, tb ? k : n, ldb, "gemm: B"); check(C, m, n, ldc, "gemm: C");
  f(ta ? "T" : "N", tb ? "T" : "N", &m, &n, &k, &alpha, A, &lda, B, &ldb, &beta, C, &ldc, 1, 1);
}
template <class T> int trsm(int side, int uplo, int trans, int unit, I m, I n, T alpha, const T* A, I lda, T* B, I ldb) {
  static auto* f = lapack<void(const char*, const char*, const char*, const char*, I*, I*, T*, const T*, I*, T*, I*, size_t, size_t, size_t, size_t)>("trsm", sizeof(T));
  const I order = side ? n : m;
  check(A, order, order, lda, "trsm: A"); check(B, m, n, ldb, "trsm: B");
  f(side ? "R" : "L", uplo ? "U" : "L", trans ? "T" : "N", unit ? "U" : "N", &m, &n, &alpha, A, &lda, B, &ldb, 1, 1, 1, 1);
  return 0;
}
template <class T> int potrf(int uplo, I n, T* A, I lda, int* info) {
  static auto* f = lapack<void(const char*, I*, T*, I*, I*, size_t)>("potrf", sizeof(T));
  check(A, n, n, lda, "potrf"); I failed = 0;
  f(uplo ? "U" : "L", &n, A, &lda, &failed, 1); *info = static_cast<int>(failed);
  return 0;
}
template <class T> int getrf(I m, I n, T* A, I lda, int* pivots, int* info) {
  static auto* f = lapack<void(I*, I*, T*, I*, I*, I*)>("getrf", sizeof(T));
  check(A, m, n, lda, "getrf"); I failed = 0; std::vector<I> wide(std::min(m, n));
  f(&m, &n, A, &lda, wide.data(), &failed); *info = static_cast<int>(failed);
  std::copy(wide.begin(), wide.end(), pivots);
  return 0;
}
template <class T> int getrs(int trans, I n, I columns, const T* A, I lda, const int* pivots, T* B, I ldb, int* info) {
  static auto* f = lapack<void(const char*, I*, I*, const T*, I*, I*, T*, I*, I*, size_t)>("getrs", sizeof(T));
  check(A, n, n, lda, "getrs: A"); check(B, n, columns, ldb, "getrs: B"); I failed = 0; std::vector<I> wide(pivots, pivots + n);
  f(trans ? "T" : "N", &n, &columns, A, &lda, wide.data(), B, &ldb, &failed, 1); *info = static_cast<int>(failed);
  return 0;
}
// The inverse from a factorisation, by LAPACK: in place there, out of place here.
template <class T> void getri(int n, const T* A, int lda, const int* pivots, T* C, int ldc, int* info) {
  static auto* f = lapack<void(I*, T*, I*, I*, T*, I*, I*)>("getri", sizeof(T));
  check(A, n, n, lda, "getri: A"); check(C, n, n, ldc, "getri: C");
  for (int j = 0; j < n; ++j) std::copy(A + (I)j * lda, A + (I)j * lda + n, C + (I)j * ldc);
  I order = n, ld = ldc, size = 64 * n, failed = 0; std::vector<I> wide(pivots, pivots + n); std::vector<T> work(size);
  f(&order, C, &ld, wide.data(), work.data(), &size, &failed); *info = static_cast<int>(failed);
}
template <class T> int syevd(int vectors, int uplo, I n, T* A, I lda, T* W, int* info) {
  static auto* f = lapack<void(const char*, const char*, I*, T*, I*, T*, T*, I*, I*, I*, I*, size_t, size_t)>("syevd", sizeof(T));
  check(A, n, n, lda, "syevd: A"); check(W, n, 1, n, "syevd: W");
  const char *job = vectors ? "V" : "N", *half = uplo ? "U" : "L";
  I size = -1, int_size = -1, int_wanted = 0, failed = 0; T wanted = 0;
  f(job, half, &n, A, &lda, W, &wanted, &size, &int_wanted, &int_size, &failed, 1, 1);
  size = static_cast<I>(wanted) + 1; int_size = int_wanted; std::vector<T> work(size); std::vector<I> int_work(int_size);
  f(job, half, &n, A, &lda, W, work.data(), &size, int_work.data(), &int_size, &failed, 1, 1); *info = static_cast<int>(failed);
  return 0;
}
}  // namespace

extern "C" {
// handles
int cublasCreate_v2(void** h) { *h = new Handle; return 0; }
int cublasDestroy_v2(void* h) { delete handle_of(h); return 0; }
int cublasGetVersion_v2(void*, int* v) { *v = 130000; return 0; }
int cublasSetStream_v2(void* h, void* s) { handle_of(h)->stream = s; return 0; }
int cublasGetStream_v2(void* h, void** s) { *s = handle_of(h)->stream; return 0; }
int cublasSetPointerMode_v2(void* h, int m) { handle_of(h)->pointer_mode = m; return 0; }
int cublasGetPointerMode_v2(void* h, int* m) { *m = handle_of(h)->pointer_mode; return 0; }
int cublasSetMathMode(void* h, int m) { handle_of(h)->math_mode = m; return 0; }
int cublasGetMathMode(void* h, int* m) { *m = handle_of(h)->math_mode; return 0; }
int cusolverGetProperty(int kind, int* v) { *v = kind == 0 ? 12 : 0; return 0; }  // major, minor, patch
int cusolverDnCreate(void** h) { *h = new Handle; return 0; }
int cusolverDnDestroy(void* h) { delete handle_of(h); return 0; }
int cusolverDnSetStream(void* h, void* s) { handle_of(h)->stream = s; return 0; }
int cusolverDnGetStream(void* h, void** s) { *s = handle_of(h)->stream; return 0; }
int cusolverDnCreateParams(void** p) { *p = std::malloc(8); return 0; }
int cusolverDnDestroyParams(void* p) { std::free(p); return 0; }

// products
int cublasGemmStridedBatchedEx(void* h, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int type, int lda, long long a,
                               const void* B, int btype, int ldb, long long b, const void* beta, void* C, int ctype, int ldc, long long c,
                               int count, int compute, int) {
  SOFT_LOCK;
  if (type != btype || type != ctype || (type != R_32F && type != R_64F)) soft::give_up("gemmEx", "float32 and float64 only");
  if (compute >= COMPUTE_32F_FAST_16F && compute <= COMPUTE_32F_FAST_TF32) soft::give_up("gemmEx", "a product that rounds its factors");
  const auto batch = [=](auto zero) {
    using T = decltype(zero);
    must_be_exact(h, sizeof(T));
    const auto one = scalar<T>(h, alpha), other = scalar<T>(h, beta);
    return later(h, "product", [=] {
      for (int j = 0; j < count; ++j)
        gemm<T>(ta, tb, m, n, k, one(), (const T*)A + j * a, lda, (const T*)B + j * b, ldb, other(), (T*)C + j * c, ldc);
    });
  };
  return type == R_32F ? batch(float(0)) : batch(double(0));
}
int cublasGemmEx(void* h, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int at, int lda, const void* B, int bt, int ldb,
                 const void* beta, void* C, int ct, int ldc, int compute, int algorithm) {
  return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, A, at, lda, 0, B, bt, ldb, 0, beta, C, ct, ldc, 0, 1, compute, algorithm);
}

#define FOR_BOTH_TYPES(X) X(S, float) X(D, double)
#define PRODUCTS(L, T) \
int cublas##L##gemm_v2(void* h, int ta, int tb, int m, int n, int k, const T* alpha, const T* A, int lda, const T* B, int ldb, const T* beta, T* C, int ldc) { \
  SOFT_LOCK; must_be_exact(h, sizeof(T)); const auto one = scalar<T>(h, alpha), other = scalar<T>(h, beta); \
  return later(h, "product", [=] { gemm<T>(ta, tb, m, n, k, one(), A, lda, B, ldb, other(), C, ldc); }); } \
int cublas##L##gemmBatched(void* h, int ta, int tb, int m, int n, int k, const T* alpha, const T** A, int lda, const T** B, int ldb, const T* beta, T** C, int ldc, int count) { \
  SOFT_LOCK; must_be_exact(h, sizeof(T)); const auto one = scalar<T>(h, alpha), other = scalar<T>(h, beta); \
  return later(h, "product", [=] { for (int j = 0; j < count; ++j) gemm<T>(ta, tb, m, n, k, one(), A[j], lda, B[j], ldb, other(), C[j], ldc); }); } \
int cublas##L##trsm_v2(void* h, int side, int uplo, int trans, int unit, int m, int n, const T* alpha, const T* A, int lda, T* B, int ldb) { \
  SOFT_LOCK; const auto one = scalar<T>(h, alpha); \
  return later(h, "trsm", [=] { trsm<T>(side, uplo, trans, unit, m, n, one(), A, lda, B, ldb); }); } \
int cublas##L##getrfBatched(void* h, int n, T** A, int lda, int* pivots, int* info, int count) { \
  SOFT_LOCK; return later(h, "getrf", [=] { for (int j = 0; j < count; ++j) getrf<T>(n, n, A[j], lda, pivots + j * n, info + j); }); } \
int cublas##L##getriBatched(void* h, int n, const T** A, int lda, const int* pivots, T** C, int ldc, int* info, int count) { \
  SOFT_LOCK; return later(h, "getri", [=] { for (int j = 0; j < count; ++j) getri<T>(n, A[j], lda, pivots + j * n, C[j], ldc, info + j); }); } \
int cublas##L##getrsBatched(void* h, int trans, int n, int columns, const T** A, int lda, const int* pivots, T** B, int ldb, int* info, int count) { \
  SOFT_LOCK; *info = 0; \
  return later(h, "getrs", [=] { int failed = 0; for (int j = 0; j < count; ++j) getrs<T>(trans, n, columns, A[j], lda, pivots + j * n, B[j], ldb, &failed); }); } \
int cusolverDn##L##potrf_bufferSize(void*, int, int n, T*, int, int* size) { *size = potrf_work(n); return 0; } \
int cusolverDn##L##potrf(void* h, int uplo, int n, T* A, int lda, T* work, int size, int* info) { \
  SOFT_LOCK; return later(h, "potrf", [=] { work_in(work, size, "potrf: workspace"); potrf<T>(uplo, n, A, lda, info); }); } \
int cusolverDn##L##potrfBatched(void* h, int uplo, int n, T** A, int lda, int* info, int count) { \
  SOFT_LOCK; return later(h, "potrf", [=] { for (int j = 0; j < count; ++j) potrf<T>(uplo, n, A[j], lda, info + j); }); } \
int cusolverDn##L##getrf_bufferSize(void*, int m, int n, T*, int, int* size) { *size = getrf_work(m, n); return 0; } \
int cusolverDn##L##getrf(void* h, int m, int n, T* A, int lda, T* work, int* pivots, int* info) { \
  SOFT_LOCK; return later(h, "getrf", [=] { work_in(work, getrf_work(m, n), "getrf: workspace"); getrf<T>(m, n, A, lda, pivots, info); }); } \
int cusolverDn##L##getrs(void* h, int trans, int n, int columns, const T* A, int lda, const int* pivots, T* B, int ldb, int* info) { \
  SOFT_LOCK; return later(h, "getrs", [=] { getrs<T>(trans, n, columns, A, lda, pivots, B, ldb, info); }); }
FOR_BOTH_TYPES(PRODUCTS)

// eigenvalues, of a symmetric matrix
int cusolverDnXsyevd_bufferSize(void*, void*, int, int, int64_t n, int type, void*, int64_t, int, void*, int, size_t* on_device, size_t* on_host) {
  *on_device = syevd_work(n) * (type == R_32F ? 4 : 8); *on_host = 8; return 0;
}
int cusolverDnXsyevd(void* h, void*, int vectors, int uplo, int64_t n, int type, void* A, int64_t lda, int, void* W, int, void* work, size_t size, void*, size_t, int* info) {
  SOFT_LOCK;
  return later(h, "syevd", [=] {
    if (size < syevd_work(n) * (type == R_32F ? 4 : 8)) soft::give_up("syevd", "the workspace is too small");
    work_in(static_cast<char*>(work), size, "syevd: workspace");
    if (type == R_32F) syevd<float>(vectors, uplo, n, (float*)A, lda, (float*)W, info);
    else syevd<double>(vectors, uplo, n, (double*)A, lda, (double*)W, info);
  });
}
}
