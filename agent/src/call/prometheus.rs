//! Reads the answer of Prometheus to an instant query.

use serde_json::Value;

/// Values of one answer. More than that is no measure.
const VALUES_MAX: usize = 1_000;

/// Every value of an answer; none if there is no data.
///
/// # Errors
/// It is no answer of Prometheus, or one without numbers.
pub(super) fn values(body: &[u8]) -> Result<Vec<f64>, String> {
    let answer: Value =
        serde_json::from_slice(body).map_err(|_| "the answer is not that of a Prometheus".to_owned())?;
    if answer.get("status").and_then(Value::as_str) != Some("success") {
        return Err("it answers that the query failed".to_owned());
    }
    let data = answer.get("data").ok_or("the answer holds no data field")?;
    let result = data.get("result").ok_or("the answer holds no result")?;
    let pairs: Vec<&Value> = match data.get("resultType").and_then(Value::as_str) {
        Some("scalar") => vec![result],
        Some("vector") => {
            let samples = result.as_array().ok_or("the result is no list")?;
            if VALUES_MAX < samples.len() {
                return Err(format!("{} values, more than {VALUES_MAX}: aggregate them", samples.len()));
            }
            samples.iter().map(|sample| &sample["value"]).collect()
        }
        Some("matrix") => return Err("the query asks for a range; use one that gives one value".to_owned()),
        Some(_) | None => return Err("the result is neither a vector nor a scalar".to_owned()),
    };
    pairs.into_iter().map(number).collect()
}

/// Of `[time, "number"]`.
fn number(pair: &Value) -> Result<f64, String> {
    let text = pair.get(1).and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).ok_or_else(|| "a value is no number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, result: &str) -> Result<Vec<f64>, String> {
        values(
            format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)
                .as_bytes(),
        )
    }

    #[test]
    fn answers_are_read_as_prometheus_gives_them() {
        assert_eq!(read("scalar", r#"[1435781451.781,"0.5"]"#), Ok(vec![0.5]));
        let two = r#"[{"metric":{"a":"b"},"value":[1.5,"1"]},{"metric":{},"value":[1.5,"+Inf"]}]"#;
        assert_eq!(read("vector", two), Ok(vec![1.0, f64::INFINITY]));
        assert_eq!(read("vector", "[]"), Ok(vec![]));
        assert!(read("vector", r#"[{"value":[1,"NaN"]}]"#).unwrap()[0].is_nan());
    }

    #[test]
    fn what_is_no_measure_is_said() {
        for (kind, result, why) in [
            ("matrix", "[]", "range"),
            ("string", r#"[1,"x"]"#, "neither"),
            ("vector", "3", "no list"),
            ("vector", "[{}]", "no number"),
            ("scalar", r#"[1,"x"]"#, "no number"),
        ] {
            let error = read(kind, result).unwrap_err();
            assert!(error.contains(why), "{kind} {result}: {error}");
        }
        assert!(values(b"<html>").unwrap_err().contains("not that of a Prometheus"));
        assert!(values(br#"{"status":"error","error":"x"}"#).unwrap_err().contains("failed"));
        let many = format!("[{}]", vec![r#"{"value":[1,"1"]}"#; 1_001].join(","));
        assert!(read("vector", &many).unwrap_err().contains("aggregate"));
    }
}
