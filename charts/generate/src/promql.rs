//! PromQL, written from the contract's metrics. Whatever is a ratio or a percentile comes from here: traces are sampled by
//! outcome and would lie about both.

use sojourn_contract::metric::Metric;

/// Label that the scrape configuration sets to the namespace of the pod.
pub const NAMESPACE: &str = "namespace";
/// Label that the scrape configuration sets to the name of the InferenceService.
pub const SERVICE: &str = "service";
/// Label that the scrape configuration sets to the name of the pod.
pub const POD: &str = "pod";
/// Label of a histogram's buckets.
pub const LE: &str = "le";

/// What a service is, in every `by`.
pub const EACH_SERVICE: [&str; 2] = [NAMESPACE, SERVICE];

/// Which series a query looks at, and over which time.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// Label matchers without braces; may be empty.
    pub matchers: &'static str,
    /// Range of a rate: a duration or Grafana's `$__rate_interval`.
    pub window: &'static str,
}

/// What a dashboard's variables choose.
pub const CHOSEN: Scope = Scope { matchers: r#"namespace=~"$namespace",service=~"$service""#, window: "$__rate_interval" };

impl Scope {
    /// Every service, over a fixed time.
    pub const fn everything(window: &'static str) -> Self {
        Self { matchers: "", window }
    }

    /// Series of a gauge, or of a histogram's part by its suffix.
    pub fn series(&self, metric: &Metric, suffix: &str, also: &[(&str, &str)]) -> String {
        let own = (!self.matchers.is_empty()).then(|| self.matchers.to_owned());
        let also = also.iter().map(|(label, value)| format!(r#"{label}="{value}""#));
        let matchers = own.into_iter().chain(also).collect::<Vec<_>>().join(",");
        let name = metric.series();
        if matchers.is_empty() { format!("{name}{suffix}") } else { format!("{name}{suffix}{{{matchers}}}") }
    }

    /// A gauge.
    pub fn gauge(&self, metric: &Metric) -> String {
        self.series(metric, "", &[])
    }

    /// Growth of a counter, a second.
    pub fn rate(&self, metric: &Metric) -> String {
        self.rate_where(metric, &[])
    }

    /// Growth of those series of a counter whose labels have these values, a second.
    pub fn rate_where(&self, metric: &Metric, also: &[(&str, &str)]) -> String {
        format!("rate({}[{}])", self.series(metric, "", also), self.window)
    }

    /// Observations of a histogram, a second.
    pub fn count_rate(&self, metric: &Metric) -> String {
        format!("rate({}[{}])", self.series(metric, "_count", &[]), self.window)
    }

    /// Growth of a histogram's sum, a second.
    pub fn sum_rate(&self, metric: &Metric) -> String {
        format!("rate({}[{}])", self.series(metric, "_sum", &[]), self.window)
    }

    /// A quantile of a histogram, for each value of `by`.
    pub fn quantile(&self, quantile: f64, metric: &Metric, by: &[&str]) -> String {
        let buckets = format!("rate({}[{}])", self.series(metric, "_bucket", &[]), self.window);
        let labels: Vec<&str> = by.iter().copied().chain([LE]).collect();
        format!("histogram_quantile({quantile}, {})", sum(&labels, &buckets))
    }

    /// Part of a histogram's observations that were at most `bound`, which has to be one of its buckets' bounds.
    pub fn within(&self, bound: &str, metric: &Metric, by: &[&str]) -> String {
        let buckets = format!("rate({}[{}])", self.series(metric, "_bucket", &[(LE, bound)]), self.window);
        ratio(&sum(by, &buckets), &sum(by, &self.count_rate(metric)))
    }
}

/// A sum for each value of `by`; one sum where it is empty.
pub fn sum(by: &[&str], inner: &str) -> String {
    aggregate("sum", by, inner)
}

/// The largest for each value of `by`; one where it is empty.
pub fn max(by: &[&str], inner: &str) -> String {
    aggregate("max", by, inner)
}

/// How many series there are for each value of `by`.
pub fn count(by: &[&str], inner: &str) -> String {
    aggregate("count", by, inner)
}

fn aggregate(operator: &str, by: &[&str], inner: &str) -> String {
    if by.is_empty() { format!("{operator}({inner})") } else { format!("{operator} by ({}) ({inner})", by.join(", ")) }
}

/// One quantity against another. Without traffic it is NaN, which draws nothing.
pub fn ratio(part: &str, whole: &str) -> String {
    format!("{part} / {whole}")
}

/// Every part of a quantity against all of it, where the parts have labels that the whole has not.
pub fn parts(parts: &str, whole: &str) -> String {
    format!("{parts} / scalar({whole})")
}

/// Only what there is of it: of many series that are there from the start, most are 0 and would only fill the legend.
pub fn occurring(query: &str) -> String {
    format!("{query} > 0")
}

/// A sum that is 0 where nothing has been counted yet: a series of a counter appears with its first event.
pub fn or_zero(query: &str, everything: &str) -> String {
    format!("({query} or 0 * {everything})")
}

#[cfg(test)]
mod tests {
    use sojourn_contract::metric;

    use super::*;

    #[test]
    fn a_rate_names_the_series_the_labels_and_the_time() {
        let scope = Scope::everything("5m");
        assert_eq!(
            sum(&EACH_SERVICE, &scope.rate(&metric::ABORTS)),
            "sum by (namespace, service) (rate(sojourn_aborts_total[5m]))"
        );
        assert_eq!(
            CHOSEN.rate_where(&metric::REQUESTS, &[("outcome", "error")]),
            r#"rate(sojourn_requests_total{namespace=~"$namespace",service=~"$service",outcome="error"}[$__rate_interval])"#
        );
    }

    #[test]
    fn a_quantile_keeps_the_buckets_apart() {
        assert_eq!(
            Scope::everything("5m").quantile(0.95, &metric::STEP_DURATION, &[SERVICE]),
            "histogram_quantile(0.95, sum by (service, le) (rate(sojourn_step_duration_seconds_bucket[5m])))"
        );
    }
}
