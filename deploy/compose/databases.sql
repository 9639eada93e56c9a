-- MLflow's user, who owns its two databases and nothing else. Run once by psql, as the superuser; the password
-- comes from a file and is in no command line, and in no log of the server.
\set password `cut -d: -f5 "$SWEEPS_SECRETS/mlflow_pgpass"`
set log_statement = 'none';
set log_min_error_statement = 'panic';
create role mlflow login password :'password';
create database mlflow owner mlflow;
create database mlflow_auth owner mlflow;
