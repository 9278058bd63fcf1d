// Streams, events and graphs of the soft device. Work is deferred: a launch puts it into its stream's queue, and it is run
// when somebody waits for it, in an order that CUDA allows. So what nobody waits for is never there in time.
//
// As in CUDA the default stream waits for the work that the other streams of its device had before, and they for its
// work, but for those made as non-blocking. SOFTDEVICE_EAGER runs work at once instead, the earliest that CUDA allows.
#include "device.h"
#include "state.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <vector>

namespace {
using soft::Work;
constexpr int ASKED_LONG_ENOUGH = 1000;  // a program that only asks, and never waits, does come to an end on a device

struct Stream;
struct Record { Stream* stream = nullptr; uint64_t number = 0; bool done = false; int asked = 0; std::chrono::steady_clock::time_point time; };
struct Item { uint64_t number; Work work; std::shared_ptr<Record> record, awaited; };
struct Graph { std::vector<Work> works; int launches = 0; };
struct Stream { int device = 0; bool null = false, blocking = true; std::deque<Item> queue; std::shared_ptr<Graph> capture; int mode = 0; };
struct Event { std::shared_ptr<Record> last; };
using GraphHandle = std::shared_ptr<Graph>;

uint64_t numbers = 0;
std::string failed;  // once a kernel has failed the device does no more
std::list<Stream> streams;  // those that were destroyed too: their work is nobody's to wait for

bool eager() { static const bool found = std::getenv("SOFTDEVICE_EAGER") != nullptr; return found; }
Stream& null_stream(int device) {
  for (Stream& s : streams) if (s.null && s.device == device) return s;
  streams.emplace_back(); streams.back().null = true; streams.back().device = device;
  return streams.back();
}
Stream& stream_of(void* handle) {
  if (handle == cudaStreamPerThread) soft::give_up("stream", "the per-thread default stream is not there");
  return handle == nullptr || handle == cudaStreamLegacy ? null_stream(soft::device) : *static_cast<Stream*>(handle);
}
void run_until(Stream& stream, uint64_t last) {
  while (!stream.queue.empty() && stream.queue.front().number <= last) {
    Item item = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (stream.null) {
      for (Stream& other : streams) if (!other.null && other.blocking && other.device == stream.device) run_until(other, item.number);
    } else if (stream.blocking) {
      run_until(null_stream(stream.device), item.number);
    }
    if (item.awaited && !item.awaited->done) run_until(*item.awaited->stream, item.awaited->number);
    if (item.work && failed.empty()) {
      const char* failure = item.work();
      if (failure) { failed = failure; std::fprintf(stderr, "soft device: %s\n", failure); }
    }
    if (item.record) { item.record->done = true; item.record->time = std::chrono::steady_clock::now(); }
  }
}
cudaError_t outcome() { return failed.empty() ? cudaSuccess : soft::result(cudaErrorLaunchFailure); }
bool captured(const Stream& stream) {  // whether a capture elsewhere forbids work on this stream
  if (!stream.null) return false;
  for (const Stream& s : streams) if (s.capture && s.blocking && s.device == stream.device) return true;
  return false;
}
cudaError_t put(Stream& stream, Item item) {
  if (captured(stream)) return soft::result(cudaErrorStreamCaptureImplicit);
  if (stream.capture) {
    if (item.record || item.awaited) soft::give_up("capture", "events are not captured");
    stream.capture->works.push_back(std::move(item.work));
    return cudaSuccess;
  }
  item.number = ++numbers;
  stream.queue.push_back(std::move(item));
  if (eager()) run_until(stream, numbers);
  return cudaSuccess;
}
cudaError_t wait_for(Stream& stream) {
  if (stream.capture || captured(stream)) return soft::result(cudaErrorStreamCaptureUnsupported);
  if (stream.null) for (Stream& s : streams) if (s.blocking && s.device == stream.device) run_until(s, numbers);
  run_until(stream, numbers);
  return outcome();
}
Event* event_of(cudaEvent_t event) { return reinterpret_cast<Event*>(event); }
}  // namespace

namespace soft {
thread_local int device = 0;
thread_local cudaError_t last_error = cudaSuccess;
cudaError_t result(cudaError_t error) { if (error) last_error = error; return error; }

int enqueue(void* stream, Work work) {
  SOFT_LOCK;
  return idle() ? cudaSuccess : put(stream_of(stream), {0, std::move(work), nullptr, nullptr});
}
int wait_for(void* stream) { SOFT_LOCK; return ::wait_for(stream_of(stream)); }
int wait_for_device() {
  SOFT_LOCK;
  for (Stream& s : streams) if (s.device == device && s.capture) return result(cudaErrorStreamCaptureUnsupported);
  for (Stream& s : streams) if (s.device == device) run_until(s, numbers);
  return outcome();
}
bool capturing_strictly() {
  SOFT_LOCK;
  for (const Stream& s : streams) if (s.capture && s.mode != cudaStreamCaptureModeRelaxed) return true;
  return false;
}
}  // namespace soft

extern "C" {
cudaError_t cudaDeviceSynchronize() { soft::note("wait"); return static_cast<cudaError_t>(soft::wait_for_device()); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* made, unsigned flags, int) {
  SOFT_LOCK;
  streams.emplace_back();
  Stream& stream = streams.back();
  stream.device = soft::device; stream.blocking = !(flags & cudaStreamNonBlocking);
  *made = reinterpret_cast<cudaStream_t>(&stream);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned flags) { return cudaStreamCreateWithPriority(s, flags, 0); }
cudaError_t cudaStreamCreate(cudaStream_t* s) { return cudaStreamCreateWithPriority(s, 0, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }  // its work goes on, for nobody to wait for
cudaError_t cudaStreamGetPriority(cudaStream_t, int* priority) { *priority = 0; return cudaSuccess; }
cudaError_t cudaStreamGetFlags(cudaStream_t s, unsigned* flags) { SOFT_LOCK; *flags = stream_of(s).blocking ? 0 : cudaStreamNonBlocking; return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  SOFT_LOCK; soft::note("wait"); return ::wait_for(stream_of(s));
}
cudaError_t cudaStreamQuery(cudaStream_t s) { SOFT_LOCK; return stream_of(s).queue.empty() ? outcome() : cudaErrorNotReady; }
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  SOFT_LOCK; return event_of(e)->last ? put(stream_of(s), {0, nullptr, nullptr, event_of(e)->last}) : cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t f, void* data) {
  SOFT_LOCK; return put(stream_of(s), {0, [=]() -> const char* { f(data); return nullptr; }, nullptr, nullptr});
}

// events
cudaError_t cudaEventCreate(cudaEvent_t* e) { *e = reinterpret_cast<cudaEvent_t>(new Event); return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) { return cudaEventCreate(e); }
cudaError_t cudaEventDestroy(cudaEvent_t e) { delete event_of(e); return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  SOFT_LOCK;
  Stream& stream = stream_of(s);
  auto record = event_of(e)->last = std::make_shared<Record>();
  record->stream = &stream; record->number = numbers + 1;
  if (soft::idle()) { record->done = true; record->time = std::chrono::steady_clock::now(); return cudaSuccess; }
  return put(stream, {0, nullptr, record, nullptr});
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
  SOFT_LOCK;
  const auto record = event_of(e)->last;
  if (!record || record->done) return outcome();
  if (++record->asked > ASKED_LONG_ENOUGH) run_until(*record->stream, record->number);
  return cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  SOFT_LOCK;
  const auto record = event_of(e)->last;
  if (record && !record->done) run_until(*record->stream, record->number);
  soft::note(record && !record->stream->queue.empty() ? "wait, and the device goes on" : "wait");
  return outcome();
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) {
  SOFT_LOCK;
  if (!event_of(a)->last || !event_of(b)->last || !event_of(a)->last->done || !event_of(b)->last->done) return soft::result(cudaErrorNotReady);
  *ms = std::chrono::duration<float, std::milli>(event_of(b)->last->time - event_of(a)->last->time).count();
  return cudaSuccess;
}

// graphs, by capture
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode) {
  SOFT_LOCK;
  Stream& stream = stream_of(s);
  if (stream.null || stream.capture) return soft::result(cudaErrorStreamCaptureUnsupported);
  stream.capture = std::make_shared<Graph>(); stream.mode = mode;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus* status) {
  SOFT_LOCK;
  *status = stream_of(s).capture ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  SOFT_LOCK;
  Stream& stream = stream_of(s);
  if (!stream.capture) return soft::result(cudaErrorIllegalState);
  *graph = reinterpret_cast<cudaGraph_t>(new GraphHandle(std::move(stream.capture)));
  stream.capture = nullptr;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  *made = reinterpret_cast<cudaGraphExec_t>(new GraphHandle(*reinterpret_cast<GraphHandle*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t s) {
  SOFT_LOCK;
  soft::note("graph");
  const GraphHandle graph = *reinterpret_cast<GraphHandle*>(handle);
  return static_cast<cudaError_t>(soft::enqueue(s, [graph]() -> const char* {
    for (const Work& work : graph->works) if (const char* failure = work()) return failure;
    return nullptr;
  }));
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { delete reinterpret_cast<GraphHandle*>(graph); return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { delete reinterpret_cast<GraphHandle*>(graph); return cudaSuccess; }
}
