// Put before the dashboards, which are written as values of these types: tests/manifests/test_grafana_types.py.

import type { Dashboard, GraphFieldConfig, Panel, RowPanel } from "GRAFANA";
import type { Options as stat } from "GRAFANA/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type { Options as timeseries } from "GRAFANA/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// JSON says an enum by its value. What anything may stand in stays so; elsewhere a field that Grafana does not know is refused.
type Read<T> = T extends string
  ? `${T}`
  : T extends (infer Each)[]
    ? Read<Each>[]
    : T extends object
      ? unknown extends T[keyof T]
        ? T
        : { [Name in keyof T]: Read<T[Name]> }
      : T;

