# MLflow with what a team's server needs besides: PostgreSQL's driver, S3, and the forms of basic-auth.
# Built from the root of the repository, for constraints.txt; runs as any user, and writes to /tmp alone.
FROM python:3.12.13-slim-bookworm
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
COPY constraints.txt /opt/constraints.txt
RUN pip install --no-cache-dir --constraint /opt/constraints.txt mlflow boto3 "psycopg[binary]" Flask-WTF
COPY deploy/compose/serve_mlflow.py /opt/serve_mlflow.py
USER 65534:65534
WORKDIR /tmp
ENTRYPOINT ["python", "/opt/serve_mlflow.py"]
