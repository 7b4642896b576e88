// Export traces of two services with the SDK: node export.mjs URL json|protobuf none|gzip TRACES
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { OTLPTraceExporter as Json } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as Protobuf } from "@opentelemetry/exporter-trace-otlp-proto";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, TracerProvider } from "@opentelemetry/sdk-trace";

const [url, format, compression, traces] = process.argv.slice(2);
const Exporter = { json: Json, protobuf: Protobuf }[format];
const providers = ["front", "back"].map((service) => {
  const exporter = new Exporter({ url, compression });
  return new TracerProvider({
    resource: resourceFromAttributes({ "service.name": service, "k8s.pod.name": `${service}-1` }),
    spanProcessors: [new BatchSpanProcessor({ exporter, maxQueueSize: 1e6 })],
  });
});
const [front, back] = providers.map((provider) => provider.getTracer("test"));
const now = Math.floor(Date.now() / 1000) * 1000;

// begin starts a span some ms after now; its end is also in ms after now.
function begin(tracer, name, kind, after, above = ROOT_CONTEXT) {
  const span = tracer.startSpan(name, { kind, startTime: now + after }, above);
  return [span, trace.setSpan(above, span)];
}

for (let number = 0; number < Number(traces); number++) {
  const [entry, within] = begin(front, "/buy", SpanKind.SERVER, 0);
  const [call, beyond] = begin(front, "GET", SpanKind.CLIENT, 10, within);
  const [answer] = begin(back, "/count", SpanKind.SERVER, 20, beyond);
  if (number % 10 === 0) answer.setStatus({ code: SpanStatusCode.ERROR, message: "sold out" });
  answer.end(now + 50);
  call.end(now + 60);
  entry.end(now + 100);
}
await Promise.all(providers.map((provider) => provider.shutdown()));
