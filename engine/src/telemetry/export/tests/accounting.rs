//! Whatever a receiver does, every journey arrives whole or is counted as dropped.

use std::collections::{HashMap, HashSet};

use opentelemetry_proto::tonic::trace::v1::Span;
use proptest::prelude::*;

use super::receiver::decode;
use super::*;

fn replies() -> impl Strategy<Value = Vec<Reply>> {
    let reply = prop_oneof![
        Just(Reply::Take),
        Just(Reply::Later),
        Just(Reply::Lost),
        Just(Reply::Never),
        (0_u64..12).prop_map(Reply::AllBut),
    ];
    proptest::collection::vec(reply, 0..12)
}

/// How many spans of each trace there are.
fn by_trace(spans: Vec<Span>) -> HashMap<Vec<u8>, usize> {
    let mut traces = HashMap::new();
    spans.into_iter().for_each(|span| *traces.entry(span.trace_id).or_default() += 1);
    traces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_journey_arrives_whole_or_is_counted_as_dropped(
        replies in replies(),
        put_first in 0_usize..30,
        put_later in 0_usize..30,
        queue in 1_usize..30,
        batch in 1_usize..8,
        patient in any::<bool>(),
    ) {
        let export_timeout = if patient { LONG } else { Duration::ZERO };
        let batching = Batching { queue, batch, export_timeout, ..batching() };
        let receiver = Receiver::replying(replies);
        let (also, mut counts) = (receiver.clone(), None);
        let expected: Arc<Mutex<HashMap<Vec<u8>, usize>>> = Arc::default();
        let put = |exporter: &Exporter, count: usize| {
            for cores in (0..count).map(|n| n % 4) {
                let (mut journey, context) = journey(Kind::Request, 1);
                journey.cores = vec![Vec::new(); cores];
                expected.lock().unwrap().insert(context.trace_id.to_be_bytes().to_vec(), 1 + cores);
                exporter.complete(journey, context);
            }
        };
        block_on(async {
            let done = exporting(batching, &receiver, async |exporter| {
                exporter.startup(start());
                put(&exporter, put_first);
                while also.attempts().is_empty() {
                    tokio::task::yield_now().await;
                }
                put(&exporter, put_later);
                exporter.shutdown(LONG).await;
            });
            counts = Some(done.await);
        });
        let (counts, journeys) = (counts.unwrap(), (put_first + put_later) as u64);
        let spans = 1 + expected.lock().unwrap().values().sum::<usize>() as u64;
        let mut sum = counts.exported_in_all();
        sum += counts.dropped_in_all();
        prop_assert_eq!(sum, tally(journeys, spans));
        let expected = expected.lock().unwrap();
        for attempt in receiver.attempts() {
            for (trace, spans) in by_trace(decode(&attempt)) {
                prop_assert_eq!(spans, expected.get(&trace).copied().unwrap_or(1), "a journey travels whole");
            }
        }
        let whole: HashSet<Vec<u8>> = receiver
            .taken()
            .into_iter()
            .flat_map(by_trace)
            .filter(|(trace, spans)| expected.get(trace) == Some(spans))
            .map(|(trace, _)| trace)
            .collect();
        prop_assert!(whole.len() as u64 >= counts.exported_journeys.get(), "{} arrived: {counts:?}", whole.len());
        prop_assert!(journeys - whole.len() as u64 <= counts.dropped_in_all().journeys);
    }
}
