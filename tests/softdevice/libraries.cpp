// cuBLAS and cuSOLVER on host memory, through the LAPACK that NumPy brings: the calls that CuPy makes for products,
// factorisations, solves and symmetric eigenproblems in float32 and float64. Every matrix is checked against the memory
// it lies in.
#include "device.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

namespace {
using I = int64_t;
constexpr int R_32F = 0, R_64F = 1;                                 // cudaDataType
constexpr int COMPUTE_32F_FAST_16F = 74, COMPUTE_32F_FAST_TF32 = 77;  // cublasComputeType_t: rounds its factors

struct Handle { int pointer_mode = 0, math_mode = 0; };
Handle* handle_of(void* h) { return static_cast<Handle*>(h); }

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
  if (soft::idle()) return;
  static auto* f = lapack<void(const char*, const char*, I*, I*, I*, T*, const T*, I*, const T*, I*, T*, T*, I*, size_t, size_t)>("gemm", sizeof(T));
  check(A, ta ? k : m, ta ? m : k, lda, "gemm: A"); check(B, tb ? n : k, tb ? k : n, ldb, "gemm: B"); check(C, m, n, ldc, "gemm: C");
  f(ta ? "T" : "N", tb ? "T" : "N", &m, &n, &k, &alpha, A, &lda, B, &ldb, &beta, C, &ldc, 1, 1);
}
template <class T> int trsm(int side, int uplo, int trans, int unit, I m, I n, T alpha, const T* A, I lda, T* B, I ldb) {
  SOFT_LOCK; soft::note("trsm");
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
int cublasSetStream_v2(void*, void*) { return 0; }
int cublasGetStream_v2(void*, void** s) { *s = nullptr; return 0; }
int cublasSetPointerMode_v2(void* h, int m) { handle_of(h)->pointer_mode = m; return 0; }
int cublasGetPointerMode_v2(void* h, int* m) { *m = handle_of(h)->pointer_mode; return 0; }
int cublasSetMathMode(void* h, int m) { handle_of(h)->math_mode = m; return 0; }
int cublasGetMathMode(void* h, int* m) { *m = handle_of(h)->math_mode; return 0; }
int cusolverDnCreate(void** h) { *h = new Handle; return 0; }
int cusolverDnDestroy(void* h) { delete handle_of(h); return 0; }
int cusolverDnSetStream(void*, void*) { return 0; }
int cusolverDnGetStream(void*, void** s) { *s = nullptr; return 0; }
int cusolverDnCreateParams(void** p) { *p = std::malloc(8); return 0; }
int cusolverDnDestroyParams(void* p) { std::free(p); return 0; }

// products
int cublasGemmStridedBatchedEx(void*, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int type, int lda, long long a,
                               const void* B, int btype, int ldb, long long b, const void* beta, void* C, int ctype, int ldc, long long c,
                               int count, int compute, int) {
  SOFT_LOCK; soft::note("product");
  if (type != btype || type != ctype || (type != R_32F && type != R_64F)) soft::give_up("gemmEx", "float32 and float64 only");
  if (compute >= COMPUTE_32F_FAST_16F && compute <= COMPUTE_32F_FAST_TF32) soft::give_up("gemmEx", "a product that rounds its factors");
  for (int j = 0; j < count; ++j) {
    if (type == R_32F) gemm<float>(ta, tb, m, n, k, *(const float*)alpha, (const float*)A + j * a, lda, (const float*)B + j * b, ldb, *(const float*)beta, (float*)C + j * c, ldc);
    else gemm<double>(ta, tb, m, n, k, *(const double*)alpha, (const double*)A + j * a, lda, (const double*)B + j * b, ldb, *(const double*)beta, (double*)C + j * c, ldc);
  }
  return 0;
}
int cublasGemmEx(void* h, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int at, int lda, const void* B, int bt, int ldb,
                 const void* beta, void* C, int ct, int ldc, int compute, int algorithm) {
  return cublasGemmStridedBatchedEx(h, ta, tb, m, n, k, alpha, A, at, lda, 0, B, bt, ldb, 0, beta, C, ct, ldc, 0, 1, compute, algorithm);
}

#define FOR_BOTH_TYPES(X) X(S, float) X(D, double)
#define PRODUCTS(L, T) \
int cublas##L##gemm_v2(void*, int ta, int tb, int m, int n, int k, const T* alpha, const T* A, int lda, const T* B, int ldb, const T* beta, T* C, int ldc) { \
  SOFT_LOCK; soft::note("product"); gemm<T>(ta, tb, m, n, k, *alpha, A, lda, B, ldb, *beta, C, ldc); return 0; } \
int cublas##L##gemmBatched(void*, int ta, int tb, int m, int n, int k, const T* alpha, const T** A, int lda, const T** B, int ldb, const T* beta, T** C, int ldc, int count) { \
  SOFT_LOCK; soft::note("product"); for (int j = 0; j < count; ++j) gemm<T>(ta, tb, m, n, k, *alpha, A[j], lda, B[j], ldb, *beta, C[j], ldc); return 0; } \
int cublas##L##trsm_v2(void*, int side, int uplo, int trans, int unit, int m, int n, const T* alpha, const T* A, int lda, T* B, int ldb) { \
  return trsm<T>(side, uplo, trans, unit, m, n, *alpha, A, lda, B, ldb); } \
int cublas##L##getrfBatched(void*, int n, T** A, int lda, int* pivots, int* info, int count) { \
  SOFT_LOCK; soft::note("getrf"); for (int j = 0; j < count; ++j) getrf<T>(n, n, A[j], lda, pivots + j * n, info + j); return 0; } \
int cublas##L##getrsBatched(void*, int trans, int n, int columns, const T** A, int lda, const int* pivots, T** B, int ldb, int* info, int count) { \
  SOFT_LOCK; soft::note("getrs"); int failed = 0; *info = 0; \
  for (int j = 0; j < count; ++j) getrs<T>(trans, n, columns, A[j], lda, pivots + j * n, B[j], ldb, &failed); return 0; } \
int cusolverDn##L##potrf_bufferSize(void*, int, int, T*, int, int* size) { *size = 1; return 0; } \
int cusolverDn##L##potrf(void*, int uplo, int n, T* A, int lda, T*, int, int* info) { SOFT_LOCK; soft::note("potrf"); return potrf<T>(uplo, n, A, lda, info); } \
int cusolverDn##L##potrfBatched(void*, int uplo, int n, T** A, int lda, int* info, int count) { \
  SOFT_LOCK; soft::note("potrf"); for (int j = 0; j < count; ++j) potrf<T>(uplo, n, A[j], lda, info + j); return 0; } \
int cusolverDn##L##getrf_bufferSize(void*, int, int, T*, int, int* size) { *size = 1; return 0; } \
int cusolverDn##L##getrf(void*, int m, int n, T* A, int lda, T*, int* pivots, int* info) { SOFT_LOCK; soft::note("getrf"); return getrf<T>(m, n, A, lda, pivots, info); } \
int cusolverDn##L##getrs(void*, int trans, int n, int columns, const T* A, int lda, const int* pivots, T* B, int ldb, int* info) { \
  SOFT_LOCK; soft::note("getrs"); return getrs<T>(trans, n, columns, A, lda, pivots, B, ldb, info); }
FOR_BOTH_TYPES(PRODUCTS)

// eigenvalues, of a symmetric matrix
int cusolverDnXsyevd_bufferSize(void*, void*, int, int, int64_t, int, void*, int64_t, int, void*, int, size_t* on_device, size_t* on_host) {
  *on_device = *on_host = 8; return 0;
}
int cusolverDnXsyevd(void*, void*, int vectors, int uplo, int64_t n, int type, void* A, int64_t lda, int, void* W, int, void*, size_t, void*, size_t, int* info) {
  SOFT_LOCK; soft::note("syevd");
  return type == R_32F ? syevd<float>(vectors, uplo, n, (float*)A, lda, (float*)W, info) : syevd<double>(vectors, uplo, n, (double*)A, lda, (double*)W, info);
}
}
