use std::io::Cursor;

use dmm_nsocket::stats::{bucket_of, highest_of};
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::*;

fn histogram(kind: HistogramKind, values: &[u64]) -> HistogramInfo {
    let mut buckets = std::collections::BTreeMap::<u16, u64>::new();
    for value in values {
        *buckets.entry(bucket_of(*value) as u16).or_default() += 1;
    }
    HistogramInfo {
        kind,
        count: values.len() as u64,
        min: values.iter().copied().min().unwrap(),
        max: values.iter().copied().max().unwrap(),
        sum: values.iter().sum(),
        buckets: buckets.into_iter().collect(),
    }
}

fn report() -> Report {
    let values: Vec<u64> = (1..=10_000).map(|i| i * 1_000).collect();
    let series = |rule: &str, stack: &str, kind| SeriesInfo {
        rule: rule.into(),
        line: 1,
        stack: stack.into(),
        counters: Default::default(),
        histograms: vec![histogram(kind, &values)],
    };
    Report {
        processes: 1,
        start_ns: 1_700_000_000_000_000_000,
        series: vec![
            series("web, <all>", "kernel", HistogramKind::Connect),
            series("cache", "bulk", HistogramKind::Connect),
            series("cache", "bulk", HistogramKind::Blocking),
        ],
    }
}

fn written(format: Format) -> String {
    let mut bytes = Vec::new();
    report()
        .write(&Filter::default(), format, &mut bytes)
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn values_are_known_to_a_hundredth() {
    let latencies = report().latencies(&Filter::default());
    assert_eq!(latencies.len(), 3);
    for (percentile, value) in &latencies[0].percentiles {
        let exact = percentile * 100_000.0;
        let error = (*value as f64 - exact).abs() / exact;
        assert!(error < 0.01, "p{percentile}: {value} for {exact}");
    }
    assert_eq!(
        (latencies[0].min_ns, latencies[0].max_ns),
        (1_000, 10_000_000)
    );
}

#[test]
fn filters_and_totals() {
    let kinds = vec![HistogramKind::Connect];
    let filter = Filter {
        kinds,
        ..Filter::default()
    };
    assert_eq!(report().latencies(&filter).len(), 2);
    let totals = report().totals(&filter);
    assert_eq!(
        (totals.len(), totals[0].count, &*totals[0].rule),
        (1, 20_000, "(all)")
    );
    let filter = Filter {
        rule: Some("none".to_owned()),
        ..Filter::default()
    };
    assert!(report().latencies(&filter).is_empty());
}

#[test]
fn the_log_is_read_back_by_its_own_library() {
    let log = written(Format::HdrLog);
    let mut tags = Vec::new();
    for entry in IntervalLogIterator::new(log.as_bytes()) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            tags.push(interval.tag().unwrap().as_str().to_owned());
            let bytes = base64(interval.encoded_histogram());
            let read: Histogram<u64> = Deserializer::new()
                .deserialize(&mut Cursor::new(bytes))
                .unwrap();
            assert_eq!(read.len(), 10_000);
            assert_eq!(read.max(), highest_of(bucket_of(10_000_000)));
        }
    }
    assert!(
        tags.contains(&"connect|web__<all>|kernel".to_owned()),
        "{tags:?}"
    );
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |c| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(digit).collect();
    digits
        .chunks(4)
        .flat_map(|chunk| {
            let word = chunk
                .iter()
                .fold(0_u32, |word, digit| word << 6 | u32::from(*digit))
                << (6 * (4 - chunk.len()));
            word.to_be_bytes()[1..chunk.len()].to_vec()
        })
        .collect()
}

#[test]
fn names_are_escaped_in_every_form() {
    assert!(written(Format::Csv).contains("connect,\"web, <all>\",kernel,"));
    for format in [Format::Svg, Format::Html] {
        let text = written(format);
        assert!(text.contains("web, &lt;all&gt;"), "{text}");
        assert!(!text.contains("<all>"));
    }
    assert!(written(Format::Html).trim_end().ends_with("</html>"));
    let json: serde_json::Value = serde_json::from_str(&written(Format::Json)).unwrap();
    assert_eq!(json[0]["count"], 10_000);
}

#[test]
fn text_has_percentiles_and_bars() {
    let text = written(Format::Text);
    assert!(text.contains("p99 9.9"), "{text}");
    assert!(text.contains("####"), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
}

#[test]
fn the_ending_decides_the_form() {
    assert_eq!(Format::of(Path::new("a.hlog")), Format::HdrLog);
    assert_eq!(Format::of(Path::new("a.HTML")), Format::Html);
    assert_eq!(Format::of(Path::new("a")), Format::Text);
}
