#!/bin/sh
# An MLflow server on PostgreSQL and S3 behind a password; docs/server.md names the variables.
exec mlflow server \
  --backend-store-uri "${MLFLOW_BACKEND:?for example postgresql+psycopg2://mlflow@127.0.0.1/mlflow}" \
  --artifacts-destination "${MLFLOW_ARTIFACTS:?for example s3://models/mlflow}" \
  --app-name basic-auth "$@"
