// Reads objects as a JSON array from stdin; prints, for each, what its published schema objects to.
// `make test-deploy` copies it beside the node_modules that it reads.
import { readFileSync } from "node:fs";
import { HTTPRoute } from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
import { ScaledObject } from "@kubernetes-models/keda/keda.sh/v1alpha1";
import {
  PodMonitor,
  PrometheusRule,
} from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const kinds = { HTTPRoute, ScaledObject, PodMonitor, PrometheusRule };
const objects = JSON.parse(readFileSync(0, "utf8"));
const told = objects.map((object) => {
  try {
    new kinds[object.kind](object).validate();
    return "";
  } catch (error) {
    return error.message;
  }
});
console.log(JSON.stringify(told));
